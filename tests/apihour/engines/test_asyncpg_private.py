"""asyncpg's private names do what they are used for."""

import asyncio

import asyncpg
import pytest

from apihour.engines.asyncpg_private import cancel_again, timed_connection


async def test_a_query_is_cancelled(database):
    connection = await asyncpg.connect(database)
    other = await asyncpg.connect(database)
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    async with asyncio.timeout(30):
        while not await other.fetchval(running, connection.get_server_pid()):
            pass
    await other.close()
    await cancel_again(connection)
    with pytest.raises(asyncpg.QueryCanceledError):
        await asked
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_every_kind_of_query_is_told(database):
    told = []
    kind = timed_connection(asyncpg.Connection, lambda *one: told.append(one))
    connection = await asyncpg.connect(database, connection_class=kind)
    logged = []
    connection.add_query_logger(lambda record: None)
    await connection.execute("CREATE TABLE t (n int)")
    await connection.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
    await connection.fetch("SELECT n FROM t WHERE n > $1", 0)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval("SELECT 1 / 0")
    assert [query.split()[0] for _, query, _ in told] == ["CREATE", "INSERT", "SELECT", "SELECT"]
    assert all(seconds > 0 for seconds, _, _ in told)
    assert type(told[-1][2]) is asyncpg.DivisionByZeroError
    count = len(told)
    connection.add_query_logger(logged.append)  # the application's own
    await connection.fetch("SELECT 2")
    await asyncio.sleep(0)
    assert [record.query for record in logged] == ["SELECT 2"] and len(told) == count
    await connection.close()
