"""asyncpg's private names do what they are used for."""

import asyncio

import asyncpg
import pytest

from apihour.engines.asyncpg_private import cancel_again


async def test_a_query_is_cancelled(database):
    connection = await asyncpg.connect(database)
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.2)
    await cancel_again(connection)
    with pytest.raises(asyncpg.QueryCanceledError):
        await asked
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
