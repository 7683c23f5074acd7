"""PostgreSQL by asyncpg, with a real server."""

import asyncio
import logging

import pytest

from apihour.engines.driver import Purpose
from apihour.engines.mysql import MySQL
from apihour.engines.postgres import Postgres
from apihour.engines.psycopg_engine import Psycopg
from apihour.errors import ConfigurationError, EngineBusyError, EngineDownError
from tests.apihour.engines.support import running, until
from tests.postgres import PASSWORD, QUOTED, fresh_database


async def test_a_connection_and_what_is_told_of_it(database):
    async with running(Postgres(database, max=2)) as engine:
        async with engine.connection() as connection:
            assert await connection.fetchval("SELECT 1 + 1") == 2
            assert await connection.fetchval(
                "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ) == "apihour pg"
            told = engine.statistics()
            assert (told["size"], told["busy"], told["max"], told["up"]) == (1, 1, 2, True)
            await connection.execute("SELECT pg_sleep(0.05)")
        told = engine.statistics()
        assert told["busy"] == 0 and told["slowest"] >= 0.05
        assert told["slowest_query"] == "SELECT pg_sleep(0.05)"
    assert engine.statistics()["size"] == 0 and not engine.up


async def test_a_transaction_commits_and_rolls_back(database):
    async with running(Postgres(database)) as engine:
        async with engine.transaction() as connection:
            await connection.execute("CREATE TABLE t (n int)")
            await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError):
            async with engine.transaction() as connection:
                await connection.execute("INSERT INTO t VALUES (2)")
                raise ZeroDivisionError
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), engine.transaction() as connection:
                await connection.execute("INSERT INTO t VALUES (3)")
                await connection.execute("SELECT pg_sleep(60)")
        async with engine.transaction("serializable", readonly=True) as connection:
            assert [row["n"] for row in await connection.fetch("SELECT n FROM t")] == [1]
            assert await connection.fetchval("SHOW transaction_isolation") == "serializable"
        assert engine.statistics()["size"] == 1 and engine.statistics()["errors"] == 0
        with pytest.raises(Exception, match="nowhere"):
            async with engine.connection() as connection:
                await connection.execute("SELECT * FROM nowhere")
        await until(lambda: engine.statistics()["errors"] == 1)


async def test_a_connection_is_given_on_as_it_was(database):
    async with running(Postgres(database, max=1)) as engine:
        async with engine.connection() as connection:
            await connection.execute("SET search_path TO nowhere")
        async with engine.connection() as connection:
            assert await connection.fetchval("SHOW search_path") == '"$user", public'


async def test_none_leaks_of_a_pool_of_one_though_a_thousand_are_cancelled(database):
    async with running(Postgres(database, max=1)) as engine:
        pids = set()

        async def one(statement, how=engine.transaction):
            async with how() as connection:
                pids.add(connection.get_server_pid())
                await connection.execute(statement)

        for number in range(1000):
            statement = "SELECT pg_sleep(60)" if number % 10 == 0 else "SELECT 1"
            how = engine.connection if number % 3 == 0 else engine.transaction
            task = asyncio.create_task(one(statement, how))
            for _ in range(number % 17):
                await asyncio.sleep(0)
            if number % 10 == 0:
                await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.wait({task})
        await until(lambda: engine.statistics()["busy"] == 0, "every connection back")
        assert engine.statistics()["size"] <= 1 and engine.statistics()["waiting"] == 0
        await one("SELECT 1")


async def test_who_waits_gets_it_in_order_and_not_for_ever(database):
    async with running(Postgres(database, max=1, wait=0.2)) as engine:
        order = []

        async def one(number):
            async with engine.connection() as connection:
                await connection.execute("SELECT 1")
                order.append(number)

        async with engine.connection():
            tasks = [asyncio.create_task(one(number)) for number in range(5)]
            await until(lambda: engine.statistics()["waiting"] == 5)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        async with engine.connection():
            with pytest.raises(EngineBusyError, match=r"no connection became free within 0\.2 s"):
                await one(5)
        assert engine.statistics()["errors"] == 1


async def test_a_server_that_restarts_is_found_again(own_postgres, caplog):
    caplog.set_level(logging.INFO)
    own_postgres.start()
    async with running(Postgres(own_postgres.url(), health=True, wait=30.0)) as engine:
        own_postgres.halt()
        await until(lambda: not engine.up, "it is known to be down")

        async def one():
            async with engine.connection() as connection:
                return await connection.fetchval("SELECT 1")

        asked = asyncio.create_task(one())
        await until(lambda: engine.statistics()["waiting"], "it waits for the server")
        own_postgres.start()
        assert await asked == 1 and engine.up
        messages = [record.getMessage() for record in caplog.records]
        assert sum("is down" in one for one in messages) == 1
        assert sum("is back" in one for one in messages) == 1
        assert messages[0].startswith("engine 'pg' (pg at ")


async def test_down_at_the_start_fails_with_its_name_and_address(tmp_path):
    engine = Postgres(f"postgresql://app:{QUOTED}@/shop?host={tmp_path}", start_timeout=0.3)
    with pytest.raises(EngineDownError) as failure:
        async with running(engine):
            pass
    said = str(failure.value)
    assert said.startswith(f"engine 'pg' (pg at {tmp_path}/shop): ") and "tried for 0.3 s" in said
    assert PASSWORD not in said and QUOTED not in said


async def test_down_at_the_start_may_be_tried_again(own_postgres, caplog):
    engine = Postgres(own_postgres.url(), start_timeout=0.2, at_start="retry", wait=0.1)
    async with running(engine):
        assert not engine.up
        with pytest.raises(EngineDownError):
            async with engine.connection():
                pass
        own_postgres.start()
        await until(lambda: engine.up, "it is found without a request")
    assert "the worker serves without it" in caplog.text and PASSWORD not in caplog.text


async def test_a_wrong_password_is_told_without_it(postgres):
    url = postgres.url().replace(QUOTED, "another-secret")
    with pytest.raises(EngineDownError) as failure:
        async with running(Postgres(url, start_timeout=0.3)):
            pass
    assert "password authentication failed" in str(failure.value)
    assert "another-secret" not in str(failure.value)


async def test_the_secret_may_be_elsewhere(database, tmp_path, monkeypatch):
    place = tmp_path / "url"
    place.write_text(database + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("PG_PASSWORD", PASSWORD)
    bare = database.replace(f":{QUOTED}", "")
    for given in ({"url": f"file:{place}"}, {"url": "credential:url"},
                  {"url": bare, "password": "env:PG_PASSWORD"}):
        async with running(Postgres(**given)) as engine, engine.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
            assert PASSWORD not in repr(engine) and QUOTED not in repr(engine)


def test_what_pgbouncer_cannot_give():
    engine = Postgres("postgresql://h/d", pgbouncer=True)
    with pytest.raises(ValueError, match="expected Transaction"):
        engine.user(Purpose())
    with pytest.raises(ValueError, match="isolation 'weak': expected read_committed"):
        engine.user(Purpose(True, "weak"))


@pytest.mark.parametrize(("options", "said"), [
    ({"max": 0}, "max: 0; expected a whole number"),
    ({"maxx": 1}, "option 'maxx': expected one of at_start, connect"),
    ({"pgbouncer": "yes"}, "pgbouncer: a str; expected true or false"),
    ({"at_start": "never"}, "at_start: a str; expected fail or retry"),
    ({"wait": 0}, "wait: 0; expected seconds"),
])
def test_an_option_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        Postgres("postgresql://h/d", **options)


@pytest.mark.parametrize(("url", "said"), [
    ("", "no URL; expected postgresql://"),
    ("mysql://secret@h/d", "a URL of another kind"),
    ("postgresql://h:port-secret/d", "a URL that cannot be read"),
    ("postgresql://me:a/secret@h/d", "a URL that cannot be read; .*in a password %2F for /"),
    ("env:NOT_SET_ANYWHERE", "env:NOT_SET_ANYWHERE: the variable is not set"),
])
def test_a_url_that_cannot_be_used(url, said):
    with pytest.raises(ConfigurationError, match=said) as failure:
        Postgres(url).examine()
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("url", [
    "postgresql://app:one%2Ftwo@h/d", "postgresql://app@h/d?password=one%2Ftwo"])
def test_what_a_driver_says_is_told_without_the_secret(url):
    engine = Postgres(url)
    engine.examine()
    for text in (f"bad dsn {url}", "bad word one%2Ftwo", "bad word one/two\x1b[2J" + "x" * 99999):
        said = engine.explain(ValueError(text))
        assert "one" not in said and "two" not in said
        assert said.isprintable() and len(said) < 5000


def test_several_hosts():
    assert Postgres("postgresql://me:x@a:1,b/shop?target_session_attrs=primary"
                    ).examine() == "a:1,b/shop"
    with pytest.raises(ConfigurationError, match="a URL that cannot be read"):
        MySQL("mysql://me:x@a:1,b:2/shop").examine()


@pytest.mark.parametrize("kind", [Postgres, Psycopg])
async def test_the_server_looks_whether_who_asked_still_lives(kind, database):
    async with running(kind(database)) as engine, engine.transaction() as connection:
        statement = "SHOW client_connection_check_interval"
        if kind is Postgres:
            found = await connection.fetchval(statement)
        else:
            found = (await (await connection.execute(statement)).fetchone())[0]
        assert found == "1s"


@pytest.mark.parametrize("kind", [Postgres, Psycopg])
async def test_the_server_never_counts_more_than_max_whoever_is_cancelled(kind, postgres, caplog):
    async def one(number):
        how = engine.transaction if number % 2 else engine.connection
        async with how() as connection:
            await connection.execute(f"SELECT pg_sleep({60 if number % 3 else 0})")

    with fresh_database(postgres, connections=2) as url:  # the third is refused
        async with running(kind(url, max=2, wait=20)) as engine:
            for number in range(120):
                tasks = [asyncio.create_task(one(number + each)) for each in range(4)]
                await asyncio.sleep((0, 0.001, 0.002, 0.004)[number % 4])
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(one(0) for _ in range(20)))
            for _ in range(40):  # as leases go to another worker, and come back
                slot = await engine.pool.take()
                engine.pool.drop(slot)
    # One whose rollback was cut off by the cancellation is given up, and that is told.
    assert not [line for line in caplog.messages if "its state is not known" not in line]


async def test_a_server_that_cannot_look_is_used_all_the_same(database, monkeypatch):
    for module in ("postgres", "psycopg_engine"):
        monkeypatch.setattr(f"apihour.engines.{module}.WATCHED", {"of_another_server": "1s"})
    for kind in (Postgres, Psycopg):
        async with running(kind(database)) as engine, engine.transaction():
            pass


def test_the_address_has_no_secret():
    engine = Postgres(f"postgresql://app:{QUOTED}@db.example:5433/shop?sslmode=disable")
    assert engine.examine() == "db.example:5433/shop"
    assert repr(engine) == "<Postgres: engine 'pg' (pg at db.example:5433/shop)>"


def test_a_missing_library_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    with pytest.raises(ConfigurationError, match=r"needs asyncpg: pip install 'apihour\[pg\]'"):
        Postgres("postgresql://h/d").examine()
