"""A worker that is not ready in time though its loop turns: it says what it waits for, and ends."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

from apihour.blame import blame_frames, is_user_code
from apihour.errors import HookError
from apihour.ops.commands.tasks import task_places

__all__ = ["give_up"]

_CANCEL = 2.0  # seconds a hook past the boot timeout has to end once it is cancelled


async def give_up(worker: Any, starting: asyncio.Task[None]) -> None:
    """Past the boot timeout: report where the start waits, and cancel it."""
    found = task_places(starting)[::-1]
    place = blame_frames([(one.file, one.line) for one in found])
    own = [one for one in found if is_user_code(one.file)]
    stack = "".join(traceback.StackSummary.from_list(
        [(one.file, one.line, one.function, None) for one in own or found]).format())
    error = HookError(f"{worker.under_way} was not done within {worker.cfg.boot_timeout:g} s "
                      f"(--boot-timeout){': ' if place else ''}{place}")
    worker.log.error("Worker %s: %s was not done in time; it waits in\n%s", worker.name,
                     worker.under_way, stack.rstrip())
    worker.report_failure(error, stack)
    starting.cancel()
    await asyncio.wait({starting}, timeout=_CANCEL)
    if starting.done() and not starting.cancelled() and (other := starting.exception()):
        worker.log.error("Worker %s: cancelled, %s", worker.name, other)
