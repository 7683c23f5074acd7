"""The name that aiosqlite keeps private, and why it is needed.

What a connection is asked for runs in a thread of its own, where nothing tells for whom: a span of
a query would have no parent. So each call takes the context of its task with it.
tests/apihour/engines/test_query_spans.py fails when a release moves it.
"""

from __future__ import annotations

import contextvars
import functools
from typing import Any

__all__ = ["keep_context"]


def keep_context(connection: Any) -> None:
    """Have every call of `connection` run in the context of the task that makes it."""
    execute = connection._execute

    async def in_context(function: Any, *arguments: Any, **options: Any) -> Any:
        run = contextvars.copy_context().run
        return await execute(functools.partial(run, function), *arguments, **options)

    connection._execute = in_context
