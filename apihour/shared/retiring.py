"""Watches that end before their store does: a worker that retires ends those of its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

__all__ = ["Retirable", "StoreWatch", "end_work"]


class Retirable(Protocol):
    """A watch."""

    task: asyncio.Task[Any] | None
    """What iterates over it; None before it does."""

    def end(self) -> None:
        """There is no more."""


class StoreWatch:
    """A watch that looks itself whether it has ended."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.has_ended = False

    def end(self) -> None:
        """There is no more."""
        self.has_ended = True


def end_work(watches: Iterable[Retirable], is_work: Callable[[asyncio.Task[Any]], bool]) -> None:
    """End those that a task iterates for which a worker that retires waits, as `is_work` says."""
    for watch in list(watches):
        if watch.task is not None and is_work(watch.task):
            watch.end()
