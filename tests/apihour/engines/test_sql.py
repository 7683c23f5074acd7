"""What every SQL engine holds, each with a real server or file."""

import asyncio
import re
from sqlite3 import OperationalError

import pytest

from apihour.engines import MySQL, Psycopg, SQLite
from apihour.engines.driver import Purpose
from apihour.errors import ConfigurationError, EngineDownError
from tests.apihour.engines.support import running, until
from tests.postgres import QUOTED

_HASH = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 400000000) "


class OfPsycopg:
    """How the tests speak to psycopg's connections."""

    sleep = "SELECT pg_sleep(60)"

    @pytest.fixture
    def make(self, database):
        return lambda **options: Psycopg(database, **options)

    async def run(self, connection, statement):
        await connection.execute(statement)

    async def values(self, connection, statement):
        return [row[0] for row in await (await connection.execute(statement)).fetchall()]


class OfMySQL:
    """How the tests speak to asyncmy's connections."""

    sleep = "SELECT SLEEP(60)"

    @pytest.fixture
    def make(self, mariadb):
        async def clean(engine):
            async with engine.connection() as connection:
                await self.run(connection, "DROP TABLE IF EXISTS t")

        def made(**options):
            engine = MySQL(f"mysql://root@localhost/test?unix_socket={mariadb.socket}", **options)
            engine.clean = clean
            return engine

        return made

    async def run(self, connection, statement):
        async with connection.cursor() as cursor:
            await cursor.execute(statement)

    async def values(self, connection, statement):
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
            return [row[0] for row in await cursor.fetchall()]


class OfSQLite:
    """How the tests speak to aiosqlite's connections."""

    sleep = _HASH + "SELECT count(*) FROM c"

    @pytest.fixture
    def make(self, tmp_path):
        return lambda **options: SQLite(str(tmp_path / "shop.db"), **options)

    async def run(self, connection, statement):
        async with connection.execute(statement) as cursor:
            await cursor.fetchall()

    async def values(self, connection, statement):
        return [row[0] for row in await connection.execute_fetchall(statement)]


class Contract:
    """The tests."""

    async def table(self, engine):
        if hasattr(engine, "clean"):
            await engine.clean(engine)
        async with engine.connection() as connection:
            await self.run(connection, "CREATE TABLE t (n int)")

    async def rows(self, engine):
        async with engine.connection() as connection:
            return sorted(await self.values(connection, "SELECT n FROM t"))

    async def test_it_commits_and_rolls_back(self, make):
        async with running(make(max=2)) as engine:
            await self.table(engine)
            async with engine.transaction() as connection:
                await self.run(connection, "INSERT INTO t VALUES (1)")
            with pytest.raises(ZeroDivisionError):
                async with engine.transaction() as connection:
                    await self.run(connection, "INSERT INTO t VALUES (2)")
                    raise ZeroDivisionError
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), engine.transaction() as connection:
                    await self.run(connection, "INSERT INTO t VALUES (3)")
                    await self.run(connection, self.sleep)
            async with engine.connection() as connection:
                await self.run(connection, "INSERT INTO t VALUES (4)")
            async with engine.connection() as connection:  # one that the application leaves open
                await self.run(connection, "BEGIN")
                await self.run(connection, "INSERT INTO t VALUES (5)")
            async with engine.transaction(readonly=True) as connection:
                assert sorted(await self.values(connection, "SELECT n FROM t")) == [1, 4]
            assert engine.statistics()["errors"] == 0

    async def test_none_leaks_of_a_pool_of_one(self, make):
        async with running(make(max=1)) as engine:
            await self.table(engine)
            begun = []

            async def one(number):
                async with engine.transaction() as connection:
                    await self.run(connection, f"INSERT INTO t VALUES ({number})")
                    begun.append(number)
                    if number % 2:
                        await self.run(connection, self.sleep)

            for number in range(60):
                task = asyncio.create_task(one(number))
                for _ in range(number % 7 if number % 3 else 0):
                    await asyncio.sleep(0)
                if number % 3 == 0:
                    await until(lambda n=number, t=task: n in begun or t.done(), "its statement")
                task.cancel()
                await asyncio.wait({task})
            await until(lambda: engine.statistics()["busy"] == 0, "every connection back")
            await one(100)
            assert 100 in await self.rows(engine) and len(begun) > 15
            assert engine.statistics()["size"] == 1

    async def test_the_slowest_query_and_failures_are_told(self, make):
        async with running(make()) as engine:
            await self.table(engine)
            with pytest.raises(Exception, match="nowhere"):
                async with engine.connection() as connection:
                    await self.run(connection, "SELECT * FROM nowhere")
            told = engine.statistics()
            assert told["slowest"] > 0 and told["slowest_query"] and told["up"]
            assert await self.rows(engine) == []


class TestPsycopg(OfPsycopg, Contract):
    """psycopg."""

    async def test_what_a_session_has_set_is_undone(self, make):
        async with running(make(max=1)) as engine:
            async with engine.connection() as connection:
                await connection.execute("SET search_path TO nowhere")
            async with engine.connection() as connection:
                assert await self.values(connection, "SHOW search_path") == ['"$user", public']
            async with engine.transaction("serializable", readonly=True) as connection:
                assert await self.values(connection, "SHOW transaction_isolation") == [
                    "serializable"]
                assert await self.values(connection, "SHOW transaction_read_only") == ["on"]

    async def test_a_server_that_restarts_is_found_again(self, own_postgres):
        own_postgres.start()
        async with running(Psycopg(own_postgres.url(), wait=30.0)) as engine:
            own_postgres.halt()
            await until(lambda: not engine.up, "it is known to be down")
            own_postgres.start()
            async with engine.connection() as connection:
                assert await self.values(connection, "SELECT 1") == [1]

    async def test_a_wrong_password_is_told_without_it(self, postgres):
        with pytest.raises(EngineDownError, match="password authentication failed") as failure:
            async with running(Psycopg(postgres.url().replace(QUOTED, "another-secret"),
                                       start_timeout=0.3)):
                pass
        assert "another-secret" not in str(failure.value)


class TestMySQL(OfMySQL, Contract):
    """asyncmy, with MariaDB."""

    async def test_a_wrong_password_is_told_without_it(self, mariadb):
        url = f"mysql://root:another-secret@localhost/test?unix_socket={mariadb.socket}"
        with pytest.raises(EngineDownError, match="Access denied") as failure:
            async with running(MySQL(url, start_timeout=0.3)):
                pass
        assert "another-secret" not in str(failure.value)

    async def test_what_is_cancelled_ends_on_the_server(self, make):
        async with running(make(max=2)) as engine:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), engine.transaction() as connection:
                    await self.run(connection, self.sleep)
            await until(lambda: engine.statistics()["busy"] == engine.statistics()["size"] == 0)
            async with engine.connection() as connection:
                running_now = await self.values(
                    connection, "SELECT info FROM information_schema.processlist")
            assert self.sleep not in running_now

    async def test_isolation(self, make):
        async with running(make()) as engine, engine.transaction("serializable") as connection:
            await self.values(connection, "SELECT 1")
        with pytest.raises(ValueError, match="isolation 'weak': expected read_uncommitted"):
            make().user(Purpose(True, "weak"))


class TestSQLite(OfSQLite, Contract):
    """aiosqlite."""

    async def test_who_writes_waits_for_who_writes(self, make):
        async with running(make(max=4)) as engine:
            await self.table(engine)

            async def one(number):
                async with engine.transaction() as connection:
                    [last] = await self.values(connection, "SELECT count(*) FROM t")
                    await asyncio.sleep(0)
                    await self.run(connection, f"INSERT INTO t VALUES ({last})")

            await asyncio.gather(*map(one, range(20)))
            assert await self.rows(engine) == list(range(20))

    async def test_who_waits_too_long_to_write_is_told_that_it_is_busy(self, make):
        async with running(make(max=2, connect={"timeout": 0.1})) as engine:
            async with engine.transaction():
                with pytest.raises(OperationalError, match="locked") as failed:
                    async with engine.transaction():
                        pass
            assert failed.value.http_status == 503

    async def test_so_is_whoever_has_a_cursor_of_its_own(self, make):
        async with running(make(max=2, connect={"timeout": 0.1})) as engine:
            await self.table(engine)
            async with engine.transaction():
                with pytest.raises(OperationalError, match="locked") as failed:
                    async with engine.connection() as connection, connection.cursor() as cursor:
                        await cursor.execute("INSERT INTO t VALUES (1)")
            assert failed.value.http_status == 503
            assert engine.statistics()["errors"] == 1
            assert engine.statistics()["slowest_query"] == "INSERT INTO t VALUES (1)"

    @pytest.mark.parametrize("url", ["", "sqlite:///", "sqlite:///:memory:", "mysql://h/d"])
    def test_no_file(self, url):
        with pytest.raises(ConfigurationError, match="no file; expected its path"):
            SQLite(url).examine()

    def test_a_url_and_a_path(self):
        assert SQLite("sqlite:////var/lib/shop.db").examine() == "/var/lib/shop.db"
        assert SQLite("shop.db").examine() == "shop.db"
        with pytest.raises(ValueError, match=re.escape("isolation 'serializable': expected none")):
            SQLite("shop.db").user(Purpose(True, "serializable"))
