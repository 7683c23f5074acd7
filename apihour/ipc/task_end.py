"""Ending a task, though a library swallows what cancels it."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["end_task"]

_AGAIN = 0.1  # seconds until it is cancelled once more


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel it until it is done; what it raised is left in it.

    Libraries of clients swallow a cancellation now and then, and so does ``asyncio.wait_for()`` of
    Python 3.11 where it comes together with what was waited for.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN)
