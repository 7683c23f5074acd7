"""MySQL's own: a user who may have one connection more than the pool, and statements that fail."""

import asyncio

import pytest

from apihour.engines import MySQL
from tests.apihour.engines.frozen_support import Kind, check_noticed, check_statements_end, often
from tests.apihour.engines.support import running, until

__all__ = ["often"]

MAX = 2


@pytest.fixture
async def url(mariadb):
    root = f"mysql://root@localhost/test?unix_socket={mariadb.socket}"
    async with running(MySQL(root, max=1)) as engine:
        await run(engine, "CREATE OR REPLACE USER app@localhost IDENTIFIED BY 'secret' "
                          f"WITH MAX_USER_CONNECTIONS {MAX + 1}")
    return f"mysql://app:secret@localhost?unix_socket={mariadb.socket}"


async def run(engine, statement):
    async with engine.connection() as connection, connection.cursor() as cursor:
        await cursor.execute(statement)


async def test_statements_that_are_cancelled_free_their_connections(url, caplog):
    async with running(MySQL(url, max=MAX, wait=20), name="app") as engine:
        for _ in range(5):
            tasks = [asyncio.create_task(run(engine, "SELECT SLEEP(60)")) for _ in range(MAX)]
            await until(lambda: engine.statistics()["busy"] == MAX)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(run(engine, "SELECT 1") for _ in range(20)))
        assert engine.statistics()["errors"] == 0
    assert not caplog.records  # it was never down


async def test_statements_that_fail_are_counted(url):
    async with running(MySQL(url, max=1), name="app") as engine:
        with pytest.raises(Exception, match="nothing"):
            await run(engine, "SELECT nothing")
        assert engine.statistics()["errors"] == 1


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("check", [check_noticed, check_statements_end])
async def test_a_server_that_hangs(url, mariadb, check):
    root = f"mysql://root@localhost/test?unix_socket={mariadb.socket}"
    await check(Kind(MySQL, root, mariadb.process.pid, "SELECT 42", "SELECT SLEEP(60)"))
