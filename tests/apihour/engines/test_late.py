"""What a statement that took too long is answered by, whichever call of the library it was."""

import asyncio

import pytest

from apihour.engines import Postgres, Psycopg
from tests.apihour.engines.support import running

pytestmark = pytest.mark.parametrize("kind", [Postgres, Psycopg])
SLOW = "SELECT pg_sleep(60), $1::int"


async def late(engine, call):
    """What ends the block of a call that is late; the connection is used again after it."""
    with pytest.raises(Exception) as failed:
        async with engine.transaction() as connection, asyncio.timeout(30):
            await call(connection)
    told = engine.statistics()
    assert (told["size"], told["busy"]) == (1, 0)
    assert told["errors"] >= 1  # a copy of psycopg's asks once more on its way out
    async with engine.connection() as connection:
        await connection.execute("SELECT 1")
    return failed.value


@pytest.mark.parametrize("how", ["lock_timeout", "NOWAIT"])
async def test_a_lock_of_anothers(kind, how, database):
    async with running(Postgres(database)) as holder, running(kind(database, max=1)) as engine:
        async with holder.connection() as connection:
            await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")

        async def lock(connection):
            await connection.execute("INSERT INTO t VALUES (2)")
            await connection.execute("SET lock_timeout = 100")
            await connection.execute(
                f"SELECT n FROM t WHERE n = 1 FOR UPDATE {how if how == 'NOWAIT' else ''}")

        async with holder.transaction() as connection:
            await connection.execute("SELECT n FROM t FOR UPDATE")
            assert (await late(engine, lock)).http_status == 503
            assert await connection.fetchval("SELECT count(*) FROM t") == 1


async def test_the_victim_of_a_deadlock(kind, database):
    async with running(kind(database, max=2)) as engine:
        async with engine.connection() as connection:
            await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        met = asyncio.Barrier(2)

        async def cross(*numbers):
            async with engine.transaction() as connection, asyncio.timeout(60):
                for number in numbers:
                    await connection.execute(f"UPDATE t SET n = {number} WHERE n = {number}")
                    if number == numbers[0]:
                        await met.wait()

        ends = await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)
        (failed,) = [end for end in ends if end is not None]
        assert (failed.sqlstate, failed.http_status) == ("40P01", 503)
        told = engine.statistics()
        assert (told["size"], told["busy"], told["errors"]) == (2, 0, 1)


async def test_what_cannot_be_serialized(kind, database):
    """By a statement, and by the commit."""
    async with running(Postgres(database)) as holder, running(kind(database, max=1)) as engine:
        async with holder.connection() as connection:
            await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        for ends in ("UPDATE t SET n = 3", "SELECT 1"):
            with pytest.raises(Exception, match="could not serialize") as failed:
                async with engine.transaction("serializable") as one:
                    await one.execute("SELECT sum(n) FROM t")
                    async with holder.transaction("serializable") as connection:
                        await connection.execute("SELECT sum(n) FROM t")
                        await connection.execute("INSERT INTO t VALUES (2)")
                        if ends == "UPDATE t SET n = 3":
                            await connection.execute("UPDATE t SET n = 2 WHERE n = 1")
                        else:
                            await one.execute("INSERT INTO t VALUES (4)")
                    await one.execute(ends)
            assert failed.value.http_status == 503
            told = engine.statistics()
            assert (told["size"], told["busy"]) == (1, 0)


async def cursor_of_asyncpg(connection):
    async for _ in connection.cursor(SLOW, 1):
        pass


async def statement_of_asyncpg(connection):
    statement = await connection.prepare(SLOW)
    await statement.fetch(1)


async def many_of_asyncpg(connection):
    await connection.executemany(SLOW, [(1,)])


async def many_of_psycopg(connection):
    async with connection.cursor() as cursor:
        await cursor.executemany("SELECT pg_sleep(60), %s::int", [(1,), (2,)])


async def named_of_psycopg(connection):
    async with connection.cursor("named") as cursor:
        await cursor.execute("SELECT pg_sleep(60), %s::int", (1,))
        await cursor.fetchone()


async def rows_of_psycopg(connection):
    async with connection.cursor() as cursor:
        async for _ in cursor.stream("SELECT pg_sleep(60), %s::int", (1,)):
            pass


async def copy_of_psycopg(connection):
    async with connection.cursor() as cursor, cursor.copy(
            "COPY (SELECT pg_sleep(60)) TO STDOUT") as copy:
        async for _ in copy:
            pass


async def copy_of_asyncpg(connection):
    await connection.copy_from_query("SELECT pg_sleep(60)", output=lambda data: None)


CALLS = {Postgres: [cursor_of_asyncpg, statement_of_asyncpg, many_of_asyncpg, copy_of_asyncpg],
         Psycopg: [many_of_psycopg, named_of_psycopg, rows_of_psycopg, copy_of_psycopg]}


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("whose", ["engine", "server"])
async def test_every_call_has_its_time(kind, number, whose, database):
    call = CALLS[kind][number]
    options = {"timeout": 0.2} if whose == "engine" else {}
    async with running(kind(database, max=1, **options)) as engine:

        async def limited(connection):
            if whose == "server":
                await connection.execute("SET LOCAL statement_timeout = 100")
            await call(connection)

        assert (await late(engine, limited)).http_status == 503


async def test_who_listens_waits_for_as_long_as_it_takes(kind, database):
    """By asyncpg's callbacks, or psycopg's iterator: no statement is under way meanwhile."""
    async with running(kind(database, max=2, timeout=0.2)) as engine, engine.connection() as one:
        heard = asyncio.get_running_loop().create_future()
        if kind is Postgres:
            await one.add_listener("news", lambda *said: heard.set_result(said[-1]))
        else:
            await one.execute("LISTEN news")

            async def listen():
                async for said in one.notifies():
                    heard.set_result(said.payload)
                    break

            listening = asyncio.ensure_future(listen())
        await asyncio.sleep(0.5)
        async with engine.connection() as other:
            await other.execute("NOTIFY news, 'late'")
        async with asyncio.timeout(30):
            assert await heard == "late"
            if kind is Postgres:
                await one.remove_listener("news", print)
            else:
                await listening
        assert engine.statistics()["errors"] == 0
