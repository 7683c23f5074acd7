"""Connections that endpoints ask for by parameter: a real server, and clients that leave."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from apihour.app.container import Container
from apihour.engines import Postgres, Resource, Transaction
from apihour_http import Depends, HTTPError, HTTPServer, RouteError, Routes
from apihour_http.testing import Client
from tests.apihour.engines.support import running, until

PG = Annotated[Any, Transaction()]
routes = Routes()


@routes.get("/add/{n}")
async def add(request, n: int, pg: PG):
    await pg.execute("INSERT INTO t VALUES ($1)", n)
    if n == 2:
        raise HTTPError(409)
    if n == 3:
        raise ZeroDivisionError
    return {"added": n}


@routes.get("/late", timeout=0.2)
async def late(request, pg: PG):
    await pg.execute("INSERT INTO t VALUES (4)")
    await pg.execute("SELECT pg_sleep(60)")


@routes.get("/long")
async def long(request, pg: PG):
    await pg.execute("SET LOCAL statement_timeout = 100")
    await pg.execute("SELECT pg_sleep(60)")


@routes.get("/long/{seconds}")
async def long_for(request, seconds: float, pg: PG):
    return await pg.fetchval("SELECT 1 FROM pg_sleep(60)", timeout=seconds)


@routes.get("/asks/others")
async def asks_others(request, pg: PG):
    raise TimeoutError("of another service: no statement of the engine's")


@routes.get("/doomed")
async def doomed(request, pg: PG):
    await pg.execute("INSERT INTO deferred VALUES (1)")  # its commit fails
    return "never"


async def counted(pg: PG):
    await pg.execute("INSERT INTO t VALUES (10)")
    return await pg.fetchval("SELECT count(*) FROM t")


@routes.get("/count")
async def count(request, pg: PG, n: Annotated[int, Depends(counted)]):
    return [n, await pg.fetchval("SELECT count(*) FROM t")]


@routes.get("/plain")
async def plain(request, conn: Annotated[Any, Resource("pg")]):
    return await conn.fetchval("SELECT now() = clock_timestamp()")


BEGUN = []


@routes.get("/slow")
async def slow(request, pg: PG):
    BEGUN.append(pg.get_server_pid())
    await pg.execute("INSERT INTO t VALUES (5)")
    await pg.execute("SELECT pg_sleep(60)")


class Shop(Container):
    def make_engines(self):
        return {"pg": Postgres("env:URL", max=1)}

    def make_servers(self):
        return {"http": HTTPServer(routes, cancel_on_disconnect=True)}


SCHEMA = """
CREATE TABLE t (n int);
CREATE TABLE deferred (n int REFERENCES parents (n) DEFERRABLE INITIALLY DEFERRED);
"""


@pytest.fixture
async def shop(database, monkeypatch):
    monkeypatch.setenv("URL", database)
    async with running(Postgres(database)) as engine, engine.connection() as connection:
        await connection.execute("CREATE TABLE parents (n int PRIMARY KEY);" + SCHEMA)
    return Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())


def rows(shop):
    async def read():
        async with shop.engines["pg"].connection() as connection:
            return sorted(row["n"] for row in await connection.fetch("SELECT n FROM t"))

    return read()


async def test_it_commits_on_success_and_rolls_back_on_anything_else(shop):
    async with Client(shop) as client:
        statuses = [(await client.get(path)).status for path in (
            "/add/1", "/add/2", "/add/3", "/late", "/doomed", "/plain", "/add/x")]
        assert statuses == [200, 409, 500, 503, 500, 200, 422]
        assert await rows(shop) == [1]
        assert (await client.get("/count")).json() == [2, 2]  # one transaction for both
        assert shop.engines["pg"].statistics()["busy"] == 0


async def test_a_statement_that_takes_too_long_is_answered_as_an_engine_that_is_busy(
    shop, caplog
):
    async with Client(shop) as client:
        for path, status in (("/long", 503), ("/long/0.1", 503), ("/asks/others", 500)):
            answer = await client.get(path)
            assert answer.status == status, path
            assert answer.headers.get("retry-after") == ("1" if status == 503 else None), path
        assert shop.engines["pg"].statistics()["errors"] == 2
    said = [one for one in caplog.messages if "took longer than it may" in one]
    assert len(said) == 1, "told at most every ten seconds"
    assert "QueryCanceledError: canceling statement due to statement timeout" in said[0]


async def test_a_pool_of_one_outlives_a_thousand_clients_that_leave(shop):
    async with Client(shop) as client:
        server = await asyncio.get_running_loop().create_server(
            client.server.stream, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]

        async def leave(number, begun):
            before = len(BEGUN)
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            if begun:
                await until(lambda: len(BEGUN) > before, "its call")
            for _ in range(number % 23):
                await asyncio.sleep(0)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        for number in range(800):
            await leave(number, True)
        for start in range(0, 200, 20):
            await asyncio.gather(*(leave(start + one, False) for one in range(20)))
        engine = shop.engines["pg"]
        await until(lambda: engine.statistics()["busy"] + engine.statistics()["waiting"] == 0,
                    "every connection back")
        assert len(BEGUN) >= 800 and len(set(BEGUN)) < 20
        assert (await client.get("/add/1")).status == 200
        assert await rows(shop) == [1]
        assert engine.statistics()["size"] == 1
        server.close()


async def test_what_the_container_lacks_is_told_at_the_start(shop):
    class Bare(Shop):
        def make_engines(self):
            return {}

    with pytest.raises(RouteError, match=r"GET /add/\{n\}: parameter 'pg': engine 'pg': there is "
                                         r"none; expected one of make_engines\(\)"):
        async with Client(Bare):
            pass

    class Own(Bare):
        async def start(self):
            self.engines["pg"] = object()

    with pytest.raises(RouteError, match="engine 'pg': a object; expected one of make_engines"):
        async with Client(Own):
            pass


async def test_what_the_engine_cannot_give_is_told_at_the_start(shop):
    own = Routes()

    @own.get("/")
    async def one(request, pg: Annotated[Any, Transaction(isolation="weak")]): ...

    class Weak(Shop):
        def make_servers(self):
            return {"http": own}

    with pytest.raises(RouteError, match="engine 'pg': isolation 'weak': expected read_committed"):
        async with Client(Weak, server="http"):
            pass


async def test_tests_do_without_the_engine():
    async def fake(request):
        yield SimpleNamespace(execute=executed)

    said = []

    async def executed(statement, *values):
        said.append(values)

    class Faked(Shop):
        def make_servers(self):
            own = Routes()
            own.get("/add/{n}")(add)
            return {"http": own}

    async with Client(Faked, overrides={"pg": fake}) as client:
        assert (await client.get("/add/7")).json() == {"added": 7}
    assert said == [(7,)]
