"""What a MySQL ends by a limit of its own: the answer, the route's transaction, the connection."""

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from asyncmy.cursors import SSCursor
from asyncmy.errors import OperationalError

from apihour.app.container import Container
from apihour.engines import MySQL, Resource, Transaction
from apihour_http import HTTPServer, Routes
from apihour_http.testing import Client
from tests.apihour.engines.support import running

DB = Annotated[Any, Transaction()]
# Reads for as long as it may, a row at a time.
ENDLESS = "SELECT a.n, REPEAT('x', 1000) FROM numbers a, numbers b, numbers c, numbers d, numbers e"
FAKED = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = 'as MySQL says it'"
CROSSED = asyncio.Event()
routes = Routes()


async def run(connection, *statements):
    async with connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
        return await cursor.fetchall()


@routes.get("/locked")
async def locked(request, db: DB):
    await run(db, "INSERT INTO t VALUES (2)", "SET innodb_lock_wait_timeout = 1",
              "UPDATE t SET n = 3 WHERE n = 1")


@routes.get("/crossed")
async def crossed(request, db: DB):
    await run(db, "SELECT n FROM t WHERE n = 1 FOR UPDATE")
    CROSSED.set()
    await run(db, "SELECT n FROM t WHERE n = 11 FOR UPDATE")


@routes.get("/locked/caught")
async def caught(request, db: DB):
    await run(db, "INSERT INTO t VALUES (4)")
    with pytest.raises(OperationalError, match="1205"):
        await run(db, "SELECT n FROM t WHERE n = 1 FOR UPDATE NOWAIT")
    return "went on"


@routes.get("/slow")
async def slow(request, db: DB):
    await run(db, "INSERT INTO t VALUES (5)",
              "SET STATEMENT max_statement_time = 0.1 FOR SELECT SLEEP(60)")


@routes.get("/signalled/{code:int}")
async def signalled(request, code: int, db: DB):
    await run(db, "INSERT INTO t VALUES (6)", FAKED.format(code))


@routes.get("/rows")
async def rows(request, db: DB):
    await run(db, "INSERT INTO t VALUES (7)", "SET max_statement_time = 0.2")
    try:
        async with db.cursor(SSCursor) as cursor:
            await cursor.execute(ENDLESS)
            while await cursor.fetchone():
                pass
    finally:
        await run(db, "SET max_statement_time = 0")


@routes.get("/session")
async def session(request, db: Annotated[Any, Resource()]):
    """A transaction of its own, left open by what ends a statement in it."""
    await run(db, "BEGIN", "INSERT INTO t VALUES (8)",
              "SELECT n FROM t WHERE n = 1 FOR UPDATE NOWAIT")


@routes.get("/commits")
async def commits(request, db: DB):
    await run(db, "INSERT INTO t VALUES (9)")

    async def commit():
        raise OperationalError(1205, "Lock wait timeout exceeded")

    db.commit = commit


@routes.get("/id")
async def identity(request, db: Annotated[Any, Resource()]):
    return (await run(db, "SELECT CONNECTION_ID()"))[0][0]


class Shop(Container):
    def make_engines(self):
        return {"db": MySQL("env:URL", max=1)}

    def make_servers(self):
        return {"http": HTTPServer(routes)}


@pytest.fixture
async def holder(mariadb, monkeypatch):
    """An engine beside the shop's."""
    url = f"mysql://root@localhost/test?unix_socket={mariadb.socket}"
    monkeypatch.setenv("URL", url)
    async with running(MySQL(url, max=2), name="beside") as engine:
        async with engine.connection() as connection:
            await run(connection, "CREATE OR REPLACE TABLE t (n int PRIMARY KEY) ENGINE=InnoDB",
                      "INSERT INTO t VALUES (1)", "CREATE OR REPLACE TABLE numbers (n int)",
                      "INSERT INTO numbers SELECT seq FROM seq_1_to_100")
        yield engine


async def kept(engine):
    async with engine.connection() as connection:
        return [row[0] for row in await run(connection, "SELECT n FROM t ORDER BY n")]


LATE = ("/locked", "/slow", "/rows", "/session", "/signalled/1205", "/signalled/1969",
        "/signalled/3024", "/signalled/3572", "/signalled/1020", "/commits")


@pytest.mark.parametrize("path", LATE)
async def test_what_the_server_ends_is_503_and_rolled_back(holder, path, caplog):
    shop = Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())
    async with Client(shop) as client, holder.transaction() as connection:
        await run(connection, "SELECT n FROM t WHERE n = 1 FOR UPDATE")
        before = (await client.get("/id")).json()
        answers = await asyncio.gather(client.get(path), client.get("/id"))
        assert (answers[0].status, answers[0].headers.get("retry-after")) == (503, "1")
        assert answers[1].json() == before, "the connection is as good as new"
        told = shop.engines["db"].statistics()
        assert (told["errors"], told["size"], told["busy"]) == (1, 1, 0)
    assert len([one for one in caplog.messages if "took longer than it may" in one]) == 1
    assert await kept(holder) == [1], "all of the transaction, not the statement alone"


async def test_the_victim_of_a_deadlock_is_503_and_rolled_back(holder, caplog):
    shop = Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())
    async with holder.connection() as connection:
        await run(connection, "INSERT INTO t VALUES (10), (11), (12)")
    async with Client(shop) as client:
        before = (await client.get("/id")).json()
        async with holder.transaction() as connection:
            # Who has written more goes on, so it is the request that is ended.
            await run(connection, "UPDATE t SET n = n + 100 WHERE n > 9")
            asked = asyncio.ensure_future(client.get("/crossed"))
            await asyncio.wait_for(CROSSED.wait(), 30)
            await run(connection, "UPDATE t SET n = 101 WHERE n = 1")
            answer = await asked
        assert (answer.status, answer.headers.get("retry-after")) == (503, "1")
        assert (await client.get("/id")).json() == before, "the connection is as good as new"
    assert any("gave way to another's (OperationalError: (1213" in one for one in caplog.messages)
    assert await kept(holder) == [101, 110, 111, 112]


async def test_one_that_is_caught_is_the_endpoints_affair(holder):
    shop = Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())
    async with Client(shop) as client, holder.transaction() as connection:
        await run(connection, "SELECT n FROM t WHERE n = 1 FOR UPDATE")
        assert (await client.get("/locked/caught")).text == "went on"
    assert await kept(holder) == [1, 4]


@pytest.mark.parametrize("code", [1062, 1317, 1644])
async def test_other_errors_are_the_applications(holder, code):
    shop = Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())
    async with Client(shop) as client:
        assert (await client.get(f"/signalled/{code}")).status == 500
        assert shop.engines["db"].statistics()["errors"] == 1
    assert await kept(holder) == [1]


async def test_one_that_the_engines_timeout_ends_holds_no_lock_on_the_server(holder, mariadb):
    url = f"mysql://root@localhost/test?unix_socket={mariadb.socket}"
    async with running(MySQL(url, max=1, timeout=0.3, wait=20), name="app") as engine:
        async with holder.transaction() as connection:
            await run(connection, "SET innodb_lock_wait_timeout = 1",
                      "SELECT n FROM t WHERE n = 1 FOR UPDATE")
            with pytest.raises(OperationalError, match="read timeout") as failed:
                async with engine.transaction() as late:
                    await run(late, "INSERT INTO t VALUES (2)")
                    await run(late, "SELECT n FROM t WHERE n = 1 FOR UPDATE")
            assert failed.value.http_status == 503
            async with engine.connection() as another:  # the server has forgotten the one before
                assert await run(another, "SELECT 1") == ((1,),)
            await run(connection, "INSERT INTO t VALUES (2)")
        assert (engine.statistics()["errors"], engine.statistics()["size"]) == (1, 1)
    assert await kept(holder) == [1, 2]
