"""Names that the standard library keeps private, and commands and pools of processes need.

Each stands here with the reason, and ``tests/apihour/ipc/test_private.py`` fails clearly when a
release moves one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import Process

__all__ = ["awaiters", "pool_processes"]


def pool_processes(pool: ProcessPoolExecutor) -> list[Process]:
    """The processes of a pool that runs.

    One that computes for minutes would be waited for by the interpreter's exit; only Python
    3.14 has ``terminate_workers()``.
    """
    return list((pool._processes or {}).values())  # none once it is shut down


def awaiters(future: asyncio.Future[Any], deep: int = 3) -> Iterator[asyncio.Task[Any]]:
    """The tasks that wait for `future`: directly, in a TaskGroup, by gather() or wait().

    Which task waits for which is written nowhere else than in the callbacks of the one waited
    for; only Python 3.14 has ``asyncio.future_add_to_awaited_by()``.
    """
    for entry in getattr(future, "_callbacks", None) or ():
        callback = entry[0] if isinstance(entry, tuple) else entry
        owner = getattr(callback, "__self__", None)
        parent = getattr(owner, "_parent_task", None)
        if isinstance(owner, asyncio.Task):
            yield owner
        elif isinstance(parent, asyncio.Task):
            yield parent
        elif deep:
            for cell in getattr(callback, "__closure__", None) or ():
                if isinstance(cell.cell_contents, asyncio.Future):
                    yield from awaiters(cell.cell_contents, deep - 1)
