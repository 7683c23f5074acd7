"""What tests of servers that hang share: freezing one, and what an engine makes of it."""

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

from apihour.engines.mysql import MySQL
from apihour.engines.postgres import Postgres
from apihour.engines.psycopg_engine import Psycopg
from apihour.engines.redis_engine import Redis
from apihour.errors import EngineBusyError, EngineDownError
from tests.apihour.engines.support import running, until


@pytest.fixture
def often(monkeypatch):
    """Whether the server answers is looked at ten times as often; what is undone has less time."""
    monkeypatch.setattr("apihour.engines.pooled._CHECK", 0.2)
    monkeypatch.setattr("apihour.engines.use._UNDOING", 0.5)


class Kind:
    """An engine on a real server: what it answers at once, and what after a minute."""

    def __init__(self, engine, url, pid, quick, slow):
        self.engine, self.url, self.pid = engine, url, pid
        self.quick, self.slow = quick, slow

    def made(self, **options):
        return self.engine(self.url, health=True, connect_timeout=0.4, wait=0.3, **options)

    @contextlib.contextmanager
    def frozen(self):
        """The server, with each process of it, does nothing meanwhile."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        pids = [self.pid, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


async def ask_asyncpg(connection, words):
    return await connection.fetchval(words)


async def ask_psycopg(connection, words):
    return (await (await connection.execute(words)).fetchone())[0]


async def ask_asyncmy(connection, words):
    async with connection.cursor() as cursor:
        await cursor.execute(words)
        return (await cursor.fetchone())[0]


async def ask_redis(connection, words):
    return int(await connection.execute_command(*words.split()))


ASKS = {Postgres: ask_asyncpg, Psycopg: ask_psycopg, MySQL: ask_asyncmy, Redis: ask_redis}


async def check_noticed(kind):
    """One that hangs is down, though all connections are in use; and up when it goes on."""
    ask = ASKS[kind.engine]
    async with running(kind.made(max=2)) as engine, contextlib.AsyncExitStack() as held:
        both = [await held.enter_async_context(engine.connection()) for _ in range(2)]
        with kind.frozen():
            asking = [asyncio.create_task(ask(one, kind.quick)) for one in both]
            await until(lambda: not engine.up, "it is known to be down")
            assert "of 2 connections in use came back for" in engine.pool.down
            began = time.monotonic()
            with pytest.raises(EngineDownError, match="no further one is answered"):
                async with engine.connection():
                    pass
            assert time.monotonic() - began < 10
        assert await asyncio.gather(*asking) == [42, 42]
        await held.aclose()
        await until(lambda: engine.up, "it is known to be back")
        async with engine.connection() as connection:
            assert await ask(connection, kind.quick) == 42


async def check_statements_end(kind):
    """A statement ends in its time on a server that hangs, and on one that lives."""
    ask = ASKS[kind.engine]
    async with running(kind.made(max=1, timeout=0.4)) as engine:
        # psycopg waits 5 s for its cancel, and 5 s more for the query's end.
        hangs = () if kind.engine is Psycopg else (kind.frozen,)
        for how in (*hangs, contextlib.nullcontext):
            with how():
                began = time.monotonic()
                with pytest.raises(Exception) as failed:
                    async with engine.connection() as connection:
                        await ask(connection, kind.slow)
                assert 0.3 < time.monotonic() - began < 10
                assert re.search("time.?out", repr(failed.value), re.IGNORECASE)
                assert failed.value.http_status == 503
            ends = time.monotonic() + 30
            while True:
                try:
                    async with engine.connection() as connection:
                        assert await ask(connection, kind.quick) == 42, "and no answer to another"
                        break
                except (EngineBusyError, EngineDownError):
                    assert time.monotonic() < ends
        await until(lambda: engine.statistics()["busy"] == 0, "every connection back")
