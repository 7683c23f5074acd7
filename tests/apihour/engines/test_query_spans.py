"""Spans of queries: one each, within the span of who asked, without a value."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest

from apihour.engines import MySQL, Postgres, Psycopg, Redis, SQLite
from apihour.engines.query_spans import without_values
from tests.apihour.engines.support import running, until
from tests.spans import Traced

SECRET = "hidden-value"


@pytest.mark.parametrize(("statement", "shown"), [
    ("SELECT * FROM t WHERE a = 'x''y' AND b=-12.5e3 AND c2 = $1",
     "SELECT * FROM t WHERE a = ? AND b=? AND c2 = $1"),
    ("SELECT 1 /* for 'x' */ -- and 7\n, 2", "SELECT ? , ?"),
    (r"SELECT E'it\'s', B'01', $$a 'b'$$, $t$x$t$, 0xFF", "SELECT ?, ?, ?, ?, ?"),
    ("SELECT 'it never ends, 17", "SELECT ?"),
    ("SELECT $a$ nor does this", "SELECT ?"),
    ("SELECT \"col 1\" FROM t2 LIMIT %s OFFSET :n", 'SELECT "col 1" FROM t2 LIMIT %s OFFSET :n'),
    ("SELECT ?2, ?", "SELECT ?2, ?"),
    ("SELECT \"it's\" -- don't\n, /* can't */ 'hidden'", "SELECT \"it's\" , ?"),
])
def test_a_statement_without_its_values(statement, shown):
    assert without_values(statement) == shown


def test_quotes_of_mysql_are_texts():
    assert without_values(r'''SELECT "a\"b", 'c\'d' FROM `t 1`''', "mysql") == (
        "SELECT ?, ? FROM `t 1`")
    assert without_values("SELECT `it's`, 'hidden' -- don't\n, 'x'", "mysql") == (
        "SELECT `it's`, ? , ?")


def test_a_statement_of_megabytes_is_cut():
    assert len(without_values("SELECT " + "x, '" * 1_000_000)) <= 4096


async def see(engine, ask, system, refuse):
    """Ask twice within a span, the second time for what fails."""
    traced = Traced()
    container = SimpleNamespace(tracer=traced.tracer)
    async with running(engine, container=container):
        before = len(traced.spans)
        with traced.tracer.start_as_current_span("request") as request:
            async with engine.connection() as connection:
                await ask(connection)
            with pytest.raises(Exception) as raised:
                async with engine.connection() as connection:
                    await refuse(connection)
        await until(lambda: len(traced.spans) >= before + 3, "the last span")
        # The reset of a connection is a query too.
        found = [one for one in traced.spans[before:]
                 if one.parent and one.parent.span_id == request.context.span_id]
    failed = [one for one in found if not one.status.is_ok]
    good = [one for one in found if one.status.is_ok]
    assert all(one.kind.name == "CLIENT" and one.attributes["db.system.name"] == system
               == one.attributes["db.system"] and one.start_time <= one.end_time for one in found)
    assert SECRET not in "".join(one.to_json() for one in traced.spans)
    return good, failed, type(raised.value).__name__


def texts(spans):
    return [one.attributes["db.query.text"] for one in spans]


@pytest.mark.parametrize("kind", [Postgres, Psycopg])
async def test_postgres(database, kind):
    async def ask(connection):
        await connection.execute(f"SELECT '{SECRET}', 17")

    async def refuse(connection):
        await connection.execute(f"SELECT '{SECRET}'::int")

    good, failed, name = await see(kind(database), ask, "postgresql", refuse)
    assert "SELECT ?, ?" in texts(good) and texts(failed) == ["SELECT ?::int"]
    assert failed[0].attributes["error.type"] == name
    assert failed[0].name == f"SELECT {failed[0].attributes['db.namespace']}"


async def test_sqlite(tmp_path):
    async def ask(connection):
        await connection.execute_fetchall(f"SELECT '{SECRET}', 17")

    async def refuse(connection):
        await connection.execute(f"SELECT '{SECRET}' FROM nowhere")

    good, failed, name = await see(SQLite(str(tmp_path / "a.db")), ask, "sqlite", refuse)
    assert texts(good) == ["SELECT ?, ?"] and texts(failed) == ["SELECT ? FROM nowhere"]
    assert failed[0].attributes["error.type"] == name == "OperationalError"


async def test_mysql(mariadb):
    async def ask(connection):
        async with connection.cursor() as cursor:
            await cursor.execute(f'SELECT "{SECRET}", 17')
            await cursor.execute("SELECT %s", (SECRET,))

    async def refuse(connection):
        async with connection.cursor() as cursor:
            with pytest.raises(Exception, match="nowhere"):
                await cursor.executemany("INSERT INTO nowhere VALUES (%s)", [(SECRET,), ("b",)])
            await cursor.execute(f"SELECT '{SECRET}' FROM nowhere WHERE a = %s", (SECRET,))

    engine = MySQL(f"mysql://root@localhost/test?unix_socket={mariadb.socket}")
    good, failed, name = await see(engine, ask, "mysql", refuse)
    assert texts(good)[:2] == ["SELECT ?, ?", "SELECT ?"]
    assert [text.partition("VALUES")[0] for text in texts(failed)] == [
        "INSERT INTO nowhere ", "SELECT ? FROM nowhere WHERE a = %s"]
    assert {one.attributes["error.type"] for one in failed} == {name}
    assert name == "ProgrammingError"


@pytest.mark.parametrize(("kind", "how"), [
    ("Cursor", "asked for"), ("DictCursor", "asked for"), ("SSDictCursor", "asked for"),
    ("DictCursor", "configured")])
async def test_mysql_by_another_class_of_cursors(mariadb, kind, how):
    cursors = pytest.importorskip("asyncmy.cursors")
    cursor_class = getattr(cursors, kind)
    given = {"connect": {"cursor_cls": cursor_class}} if how == "configured" else {}
    words = (cursor_class,) if how == "asked for" else ()
    shown = []

    async def ask(connection):
        async with connection.cursor(*words) as cursor:
            assert isinstance(cursor, cursor_class)
            await cursor.execute(f'SELECT "{SECRET}" AS a, %s AS b', (17,))
            shown.append(await cursor.fetchall())

    async def refuse(connection):
        async with connection.cursor(*words) as cursor:
            await cursor.execute(f"SELECT '{SECRET}' FROM nowhere")

    engine = MySQL(f"mysql://root@localhost/test?unix_socket={mariadb.socket}", **given)
    good, failed, name = await see(engine, ask, "mysql", refuse)
    assert list(shown[0]) == [{"a": SECRET, "b": 17} if "Dict" in kind else (SECRET, 17)]
    assert [text for text in texts(good) if "AS" in text] == ["SELECT ? AS a, ? AS b"]
    assert texts(failed) == ["SELECT ? FROM nowhere"]
    assert failed[0].attributes["error.type"] == name == "ProgrammingError"


async def test_redis(redis_server):
    async def ask(redis):
        await redis.set("a", SECRET)
        async with redis.pipeline(transaction=True) as pipe:
            await pipe.set("b", SECRET).get("a").execute()

    async def refuse(redis):
        await redis.execute_command("LPUSH", "a", SECRET)

    engine = Redis(f"unix://:hidden-word@{redis_server.socket}")
    good, failed, name = await see(engine, ask, "redis", refuse)
    assert texts(good) == ["SET", "PIPELINE"] and texts(failed) == ["LPUSH"]
    assert failed[0].attributes["error.type"] == name


async def test_one_that_is_cancelled_has_not_failed(database):
    traced = Traced()
    async with running(Postgres(database), container=SimpleNamespace(tracer=traced.tracer)) as pg:
        async with pg.connection() as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await connection.execute("SELECT pg_sleep(60)")
        await until(lambda: any("pg_sleep" in text for text in texts(traced.spans)))
    (found,) = [one for one in traced.spans if "pg_sleep" in one.attributes["db.query.text"]]
    assert found.attributes["error.type"] == "CancelledError" and found.status.is_ok
    assert (found.end_time - found.start_time) / 1e9 >= 0.15


OFF = """
import asyncio, logging, sys, apihour
from apihour.engines import SQLite
from apihour.resources import EngineContext
from apihour.jobs.container_jobs import make_jobs
from apihour_http import HTTPClient, HTTPServer, Routes

class Container(apihour.Container):
    @apihour.every("5m")
    async def tick(self): ...

async def main():
    container = Container()
    assert container.tracer is None
    for engine in SQLite("a.db"), HTTPClient():
        await engine.start(EngineContext("a", container, asyncio.get_running_loop(),
                                         logging.getLogger()))
        await engine.close()
    class Context: pass
    Context.container = container
    server = HTTPServer(Routes())
    await server.start(Context)
    await server.stop()
    make_jobs(container, "1.1", logging.getLogger())

asyncio.run(main())
print([name for name in sys.modules if "opentelemetry" in name or name.endswith("_spans")])
"""


def test_off_it_is_not_imported(tmp_path):
    done = subprocess.run([sys.executable, "-c", OFF], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
