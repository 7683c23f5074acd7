"""A command that is cancelled in any of its moments: the cancel is heard, and the engine closes."""

import asyncio

import pytest

from apihour.engines.redis_engine import Redis
from tests.apihour.engines.support import running, until
from tests.databases import redis_server

__all__ = ["redis_server"]

TURNS = 12  # of the loop, in which a command has been sent and is waited for


async def cancelled_after(turns, work):
    """The task of `work`, cancelled after so many turns of the loop."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    return task


@pytest.mark.parametrize("turns", range(TURNS))
@pytest.mark.parametrize("how", ["command", "pipeline", "watching"])
async def test_a_cancel_is_heard(redis_server, turns, how):
    async def command(client):
        await client.blpop("nothing", 5)

    async def pipeline(client):
        await client.pipeline(transaction=False).blpop("nothing", 5).execute()

    async def watching(client):
        async with client.pipeline() as pipe:
            await pipe.watch("key")
            await pipe.blpop("nothing", 5)

    async def use(engine):
        async with engine.connection() as client:
            await {"command": command, "pipeline": pipeline, "watching": watching}[how](client)

    url = f"unix://:hidden-word@{redis_server.socket}"
    async with running(Redis(url, max=1, timeout=10)) as engine:
        task = await cancelled_after(turns, use(engine))
        assert task.cancelled()
        await until(lambda: not engine.statistics()["busy"], "the connection is back")
        async with engine.connection() as client:
            assert await client.echo("mine") == b"mine"


@pytest.mark.parametrize("turns", range(TURNS))
async def test_it_closes_while_it_looks_whether_the_server_answers(
        redis_server, turns, monkeypatch):
    monkeypatch.setattr("apihour.engines.pooled._LOOK", 0.001)
    monkeypatch.setattr("apihour.engines.pooled._CHECK", 0.001)
    url = f"unix://:hidden-word@{redis_server.socket}"
    async with running(Redis(url, max=1, timeout=10, health=True)) as engine:
        pinged = asyncio.Event()
        ping = engine.pool.driver.ping

        async def pinging(connection):
            pinged.set()
            await ping(connection)

        engine.pool.driver.ping = pinging
        await pinged.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.create_task(engine.close())
        await until(closing.done, "it is closed", seconds=10)
