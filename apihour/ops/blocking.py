"""Telling the developer of a loop that was blocked: which line, for how long.

Rules: a worker that serves is meant; an import and a start may block, nobody waits for them. A
line that blocks again and again is told once a minute.
"""

from __future__ import annotations

import logging
import time

from apihour.blame import blame_frames, is_user_code
from apihour.ops.stacks import Block

__all__ = ["BlockingLog"]

_LONG = 0.5  # seconds that every client of the worker notices
_AGAIN = 60.0  # seconds between two lines about one place
_PLACES = 100  # places remembered


class BlockingLog:
    """One worker's warnings about blocks of its loop."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: dict[tuple[str, int], float] = {}

    def tell(self, worker: str, block: Block) -> None:
        """Log one block, if it was long and its place was not told of a moment ago."""
        if block.at_start:
            return  # nothing is served yet
        frames = [frame for line in block.stack[::-1] if (frame := _frame(line))]
        if block.seconds < _LONG or not any(is_user_code(path) for path, _ in frames):
            return
        place = next(frame for frame in reversed(frames) if is_user_code(frame[0]))
        now = time.monotonic()
        if now - self._told.get(place, -_AGAIN) < _AGAIN:
            return
        if len(self._told) >= _PLACES:
            self._told.clear()
        self._told[place] = now
        self._log.warning(
            "Worker %s: its event loop was blocked for %.1f s, and with it every connection of "
            "this worker, at %s; expected await, blocking=True or container.run_cpu()",
            worker, block.seconds, blame_frames(frames))


def _frame(line: str) -> tuple[str, int] | None:
    """File and line of one entry of a block's stack, ``FILE:LINE FUNCTION``."""
    place, _, _ = line.rpartition(" ")
    path, _, number = place.rpartition(":")
    return (path, int(number)) if number.isdigit() else None
