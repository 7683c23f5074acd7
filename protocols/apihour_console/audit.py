"""The audit log: who ran what from where, on which workers, and how it ended.

Rules:

- Append-only JSON lines, 0600; at a size limit the file becomes ``.1`` (``.1`` ``.2``...).
- A directory that cannot be written is said once; entries then live in memory, bounded.
- An entry is written when a command ends, and for logins, refusals and kicks.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["AuditLog", "AuditRecord"]

_SIZE = 10 * 1024 * 1024  # bytes of one file; with KEPT below, 40 MB at most
_KEPT = 3
_REMEMBERED = 1000  # entries in memory: what ``audit`` shows where no file can be written
_COMMAND = 2000  # characters of a command line that are kept
_PENDING = 1000  # entries a slow follower may be behind before it loses some


@dataclass(frozen=True)
class AuditRecord:
    """One line. `time`: seconds since the epoch, `duration`: seconds; `status`: as of exit."""

    time: float
    event: str
    user: str
    fingerprint: str
    role: str
    address: str
    command: str = ""
    workers: str = ""
    outcome: str = "ok"
    status: int = 0
    duration: float = 0.0


class AuditLog:
    """Appends records; reads the last ones; follows."""

    def __init__(self, path: Path | None, logger: logging.Logger) -> None:
        self._path = path
        self._logger = logger
        self._recent: collections.deque[AuditRecord] = collections.deque(maxlen=_REMEMBERED)
        self._followers: set[asyncio.Queue[AuditRecord]] = set()
        if path is not None:
            self._recent.extend(_read_tail(path))

    @property
    def path(self) -> Path | None:
        """The file; None when entries are kept in memory only."""
        return self._path

    def write(self, record: AuditRecord) -> None:
        """Append one record; a disk that refuses is logged once, the entry stays in memory."""
        self._recent.append(record)
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(record)
        if self._path is None:
            return
        line = json.dumps(asdict(record), separators=(",", ":")) + "\n"
        try:
            self._append(self._path, line.encode())
        except OSError as error:
            self._logger.warning(
                "audit log %s: %s; the last %d entries are kept in memory",
                self._path, error.strerror, _REMEMBERED,
            )
            self._path = None

    def record(
        self, event: str, *, user: str, fingerprint: str = "", role: str = "", address: str = "",
        command: str = "", workers: str = "", outcome: str = "ok", status: int = 0,
        duration: float = 0.0,
    ) -> None:
        """Append one record of now."""
        self.write(AuditRecord(
            time.time(), event, user, fingerprint, role, address, command[:_COMMAND], workers,
            outcome, status, round(duration, 6),
        ))

    def _append(self, path: Path, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "ab", buffering=0) as file:
            file.write(data)
            size = os.fstat(file.fileno()).st_size
        if size >= _SIZE:
            for number in range(_KEPT, 0, -1):
                older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
                with contextlib.suppress(FileNotFoundError):
                    os.replace(older, path.with_name(f"{path.name}.{number}"))

    def recent(self, count: int = 100) -> list[AuditRecord]:
        """The last `count` records, oldest first."""
        return list(self._recent)[-count:] if count > 0 else []

    @contextlib.contextmanager
    def follow(self) -> Iterator[asyncio.Queue[AuditRecord]]:
        """A queue that gets the records written from now on."""
        queue: asyncio.Queue[AuditRecord] = asyncio.Queue(_PENDING)
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)


def _read_tail(path: Path) -> list[AuditRecord]:
    """The records at the end of the file; lines that are none are passed by."""
    found = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 512 * 1024))
        for line in file.read().split(b"\n")[-_REMEMBERED:]:
            with contextlib.suppress(ValueError, TypeError):
                found.append(AuditRecord(**json.loads(line)))
    return found
