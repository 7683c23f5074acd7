"""asyncpg's private names do what they are used for."""

import asyncio

import asyncpg
import pytest

from apihour.engines.asyncpg_private import cancel_again


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
