"""What a thread is doing: frames, where they are, and whether the event loop is blocked.

Rules:

- Everything here may run in the agent thread while the loop's thread runs: frames are
  read, never kept, and nothing waits for the loop.
- The loop is idle when no frame but the loop's own stands above the one that runs it.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Protocol

from apihour.blame import is_user_code

__all__ = ["SILENT", "Block", "LoopWatch", "Place", "fold", "frames_of", "place_of", "places"]

_MACHINERY = frozenset({asyncio.base_events.__file__, asyncio.runners.__file__,
                        asyncio.events.__file__, selectors.__file__})
SILENT = 1.0  # seconds without a heartbeat; one comes every quarter of a second
_DEEP = 200  # frames of one stack that are looked at; recursion goes deeper for nothing


@dataclass(frozen=True)
class Place:
    """One frame: file, line and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line} {self.function}"


@dataclass(frozen=True)
class Block:
    """One time the loop did not answer; `at` is a time of day, `seconds` how long.

    `at_start`: the application was not up yet, and imported, say.
    """

    at: float
    seconds: float
    where: str
    stack: tuple[str, ...]
    at_start: bool = False


def frames_of(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of a stack, innermost first."""
    for _ in range(_DEEP):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def places(frame: FrameType | None, base: FrameType | None = None) -> list[Place]:
    """The stack as values, innermost first; nothing of what is below the frame `base`."""
    found: list[Place] = []
    for one in frames_of(frame):
        code = one.f_code
        found.append(Place(code.co_filename, one.f_lineno or code.co_firstlineno,
                           code.co_qualname))
        if one is base:
            break
    return found


def place_of(stack: list[Place]) -> Place | None:
    """The place to name in one line: the user's innermost, else the innermost.

    What was typed into the shell's Python (``<shell>``) is the user's as well.
    """
    innermost = stack[0] if stack else None
    return next((place for place in stack
                 if is_user_code(place.file) or place.file == "<shell>"), innermost)


def fold(frame: FrameType | None) -> tuple[CodeType, ...]:
    """The codes of a stack, innermost first: a cheap key to count samples by."""
    return tuple([one.f_code for one in frames_of(frame)])


class Watched(Protocol):
    """The worker, as far as its loop is concerned; no loop: it is not made yet."""

    loop: asyncio.AbstractEventLoop | None
    beat: float


class LoopWatch:
    """Asks the loop now and then to answer, and looks at its stack when it does not.

    The agent calls :meth:`step` from its own thread; the answer is one callback in the
    loop. At its resting pace a block over ``pace + threshold`` seconds is always seen, a
    shorter one by chance; a follower (``slow -f``) quickens the pace so that all are.
    """

    REST = 0.4  # seconds between questions when nobody looks: a block of half a second is seen
    EAGER = 0.05  # seconds between questions and between looks while somebody does

    def __init__(self, worker: Watched, threshold: float = 0.1) -> None:
        self.worker = worker
        self.threshold = threshold
        self.blocks: deque[Block] = deque(maxlen=200)
        self.seen = 0
        self.followers = 0
        self.on_block: Callable[[Block], None] | None = None
        self.thread = threading.main_thread().ident or 0
        self.base: FrameType | None = None
        self._asked = 0.0
        self._since = 0.0
        self._answered = 0.0
        self._next = 0.0
        self._stack: list[Place] = []
        self.is_starting: Callable[[], bool] = lambda: False
        self._at_start = False

    def _answer(self) -> None:
        """Run in the loop."""
        if self.base is None:
            self.thread = threading.get_ident()
            self.base = next(
                (one for one in frames_of(sys._getframe(1))
                 if one.f_code.co_filename not in _MACHINERY), None,
            )
        self._answered = time.monotonic()

    def step(self, now: float) -> float:
        """Ask, or look whether the answer came; return the time of the next step."""
        if now < self._next:
            return self._next
        if self._answered >= self._asked:
            if self._stack:
                self._record()
            elif now - self._asked >= self._pace() - 0.001:
                self._ask(now)
                self._next = now + self.threshold
                return self._next
            self._next = max(now + 0.001, self._asked + self._pace())
            return self._next
        if not self._stack:
            self._since = max(self._answered, self.worker.beat)  # it turned then, for sure
            self._stack = places(self.frame())
            self._at_start = self.is_starting()
        self._next = now + (self.EAGER if self.followers else self.threshold)
        return self._next

    def _pace(self) -> float:
        """Eager at first as well: what the loop stands on is learned from its first answer."""
        return self.EAGER if self.followers or self.base is None else self.REST

    def _ask(self, now: float) -> None:
        self._asked = now
        loop = self.worker.loop
        try:
            if loop is not None and loop.is_running():
                loop.call_soon_threadsafe(self._answer)
                return
        except RuntimeError:  # the loop is closed: the worker is on its way out
            pass
        self._answered = now

    def _record(self) -> None:
        seconds = self._answered - self._since
        place = place_of(self._stack)
        lines = tuple(f"{p.file}:{p.line} {p.function}" for p in self._stack[:40])
        self.blocks.append(Block(time.time() - seconds, seconds, str(place or ""), lines,
                                 self._at_start))
        self.seen += 1
        self._stack = []
        if self.on_block is not None:
            self.on_block(self.blocks[-1])

    def follow(self) -> None:
        """Look closely from now on; :meth:`unfollow` ends it."""
        self.followers += 1
        self._next = 0.0

    def unfollow(self) -> None:
        """One follower less."""
        self.followers -= 1

    def frame(self) -> FrameType | None:
        """The innermost frame of the loop's thread."""
        return sys._current_frames().get(self.thread)

    def blocked(self) -> float:
        """Seconds since the loop last turned; 0.0 when it owes no answer for long."""
        now = time.monotonic()
        loop = self.worker.loop
        if loop is not None and loop.is_running() and now - self.worker.beat >= SILENT:
            return now - self.worker.beat
        if self._answered >= self._asked or now - self._asked < self.threshold:
            return 0.0
        return now - min(self._asked, self.worker.beat)

    def idle(self, frame: FrameType | None) -> bool:
        """Whether the loop's thread, at that frame, waits for something to happen."""
        for one in frames_of(frame):
            if one is self.base:
                return True
            if one.f_code.co_filename not in _MACHINERY:
                return False
        return True
