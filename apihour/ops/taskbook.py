"""The tasks of a loop, numbered and dated by whoever looks at them.

Rules:

- asyncio keeps no time with a task, and a task must not pay for one: its age counts from the
  first look it was there for. The agent looks every few seconds, while they are few.
- A number is given once, so that what is cancelled is what was seen: addresses are reused.
- Tasks are held weakly.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import weakref
from collections.abc import Iterable
from typing import Any

__all__ = ["TaskBook"]

Task = asyncio.Task[Any]


class TaskBook:
    """Numbers and ages of tasks; used by one thread at a time, as its agent sees to."""

    EVERY = 5.0  # seconds between two looks when nobody asks
    FEW = 1000  # tasks that are looked at unasked; that takes about half a millisecond

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._known: weakref.WeakKeyDictionary[Task, tuple[int, float]] = (
            weakref.WeakKeyDictionary())
        self._tasks: weakref.WeakValueDictionary[int, Task] = weakref.WeakValueDictionary()

    def look(self, tasks: Iterable[Task]) -> None:
        """Note those that are there."""
        for task in tasks:
            self.number(task)

    def number(self, task: Task) -> int:
        """The number of a task."""
        return self._entry(task)[0]

    def age(self, task: Task) -> float:
        """Seconds since the first look at a task."""
        return time.monotonic() - self._entry(task)[1]

    def find(self, number: int) -> Task | None:
        """The task of that number, None when it is gone."""
        return self._tasks.get(number)

    def _entry(self, task: Task) -> tuple[int, float]:
        known = self._known.get(task)
        if known is None:
            known = self._known[task] = (next(self._numbers), time.monotonic())
            self._tasks[known[0]] = task
        return known
