"""Undoing what a cancelled call has begun, when the server may not have heard of the cancel.

A cancel that comes before its query has begun is forgotten, and the query goes on. So the server
is told again, as long as what comes next has to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

__all__ = ["undo"]

_HEARD, _LONGEST = 0.05, 1.0  # seconds until it is told again, doubling


async def undo(undoing: Coroutine[Any, Any, Any], cancel: Callable[[], Awaitable[Any]]) -> None:
    """Wait for `undoing`; call `cancel` meanwhile, later and later. Raises what they raise."""
    task = asyncio.ensure_future(undoing)
    patience = _HEARD
    try:
        while not (await asyncio.wait({task}, timeout=patience))[0]:
            patience = min(2 * patience, _LONGEST)
            await cancel()
        task.result()
    finally:
        task.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await task
