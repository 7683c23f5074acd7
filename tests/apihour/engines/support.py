"""What the tests of engines share: an engine that runs in this process, and waiting."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager

from apihour.resources import EngineContext


@asynccontextmanager
async def running(engine, name="pg", container=None, shared=None):
    """Start `engine` as a worker would, and close it."""
    context = EngineContext(name, container, asyncio.get_running_loop(),
                            logging.getLogger("gunicorn.error"), shared)
    try:
        await engine.start(context)
        yield engine
    finally:
        await engine.close()


async def until(condition, what="the condition", seconds=30.0):
    """Wait until `condition()` is true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{what} did not come within {seconds:g} s"
        await asyncio.sleep(0.002)
