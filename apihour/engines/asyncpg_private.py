"""The names that asyncpg keeps private, and why they are needed.

A query that is cancelled as soon as it was sent may go on: the server looks at the request to
cancel before it has seen the query, and drops it. asyncpg asks once, and waits for the query's
end; here it is asked again. tests/apihour/engines/test_asyncpg_private.py fails when a release
moves them.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

__all__ = ["cancel_again"]


async def cancel_again(connection: Any) -> None:
    """Ask the server of `connection` once more to cancel what it does. Raises OSError."""
    utilities = importlib.import_module("asyncpg.connect_utils")
    protocol = connection._protocol
    await utilities._cancel(
        loop=asyncio.get_running_loop(), addr=connection._addr, params=connection._params,
        backend_pid=protocol.backend_pid, backend_secret=protocol.backend_secret)
