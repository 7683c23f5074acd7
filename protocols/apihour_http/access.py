"""The access log: entries are kept as they come, formatted in batches, never lost on drain.

Rules:

- A request costs one tuple; formatting happens in a timer, a small batch at a time.
- What a peer sent is escaped before it is written: quotes, controls and non-ASCII.
- One batch is one logging record: lines joined by newlines.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import time
from collections import deque
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

__all__ = ["AccessEntry", "AccessLog"]

# Seconds between two batches; what a killed worker loses at most.
_INTERVAL = 0.1
# Lines of one batch: under half a millisecond of formatting at a stretch.
_BATCH = 128
# Printable ASCII without the quote and the backslash: what ascii() would leave as it is.
_SAFE = re.compile(r"[ !#-&(-\[\]-~]+")

_APACHE = "%d/%b/%Y:%H:%M:%S +0000"
_ISO = "%Y-%m-%dT%H:%M:%SZ"


class AccessEntry(NamedTuple):
    """One answered request; `seconds` from its arrival to its answer, `when` wall clock."""

    when: float
    remote: str | None
    method: str
    target: str
    version: str
    status: int
    size: int
    seconds: float
    referer: str | None
    agent: str | None


class AccessLog:
    """Buffers entries and writes them to a logger as lines of one format."""

    def __init__(self, style: str, logger: logging.Logger) -> None:
        self._format = {"common": common, "combined": combined, "json": as_json}[style]
        self._logger = logger
        self._entries: deque[tuple[Any, ...]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.add = self._entries.append

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write batches by a timer of `loop`."""
        self._timer = loop.call_later(_INTERVAL, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._write_batch()
        delay = 0.001 if self._entries else _INTERVAL
        self._timer = loop.call_later(delay, self._tick, loop)

    def flush(self) -> None:
        """Write everything that is buffered, now."""
        while self._entries:
            self._write_batch()

    def stop(self) -> None:
        """Write the rest and end the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def _write_batch(self) -> None:
        entries = self._entries
        if not entries:
            return
        lines = [
            self._format(AccessEntry(*entries.popleft()))
            for _ in range(min(_BATCH, len(entries)))
        ]
        self._logger.info("%s", "\n".join(lines))


def _clean(text: str | None) -> str:
    if not text:
        return "-"
    if _SAFE.fullmatch(text):
        return text
    return ascii(text)[1:-1].replace('"', '\\"')


@functools.lru_cache(4)
def _time(second: int, form: str) -> str:
    """A time in UTC; entries come in order, so the last few are all that is asked for."""
    return time.strftime(form, time.gmtime(second))


def common(entry: AccessEntry) -> str:
    """Apache's common log format."""
    return (
        f'{entry.remote or "-"} - - [{_time(int(entry.when), _APACHE)}] "{entry.method} '
        f'{_clean(entry.target)} {entry.version}" {entry.status} {entry.size}'
    )


def combined(entry: AccessEntry) -> str:
    """Apache's combined log format: common, then referer and user agent."""
    return f'{common(entry)} "{_clean(entry.referer)}" "{_clean(entry.agent)}"'


def as_json(entry: AccessEntry) -> str:
    """One JSON object a line; ``seconds`` rounded to microseconds, ``time`` in UTC."""
    # Written out: json.dumps() of a dict takes twice as long, and the keys never change.
    when, remote, method, target, version, status, size, seconds, referer, agent = entry
    return (
        f'{{"time": "{_time(int(when), _ISO)}", "remote": {_quoted(remote)}, '
        f'"method": {quoted(method)}, "target": {quoted(target)}, '
        f'"version": {quoted(version)}, "status": {status}, "size": {size}, '
        f'"seconds": {round(seconds, 6)!r}, "referer": {_quoted(referer)}, '
        f'"agent": {_quoted(agent)}}}'
    )


def _quoted(text: str | None) -> str:
    return "null" if text is None else quoted(text)
