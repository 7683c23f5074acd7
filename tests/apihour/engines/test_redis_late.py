"""A pipeline that the engine's `timeout` cuts off: nothing of its answers is another's."""

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from redis.exceptions import TimeoutError

from apihour.app.container import Container
from apihour.engines import Redis, Resource
from apihour_http import HTTPServer, Routes
from apihour_http.testing import Client
from tests.apihour.engines.support import running
from tests.databases import BOTH

Cache = Annotated[Any, Resource("cache")]
routes = Routes()


@routes.get("/blocked")
async def blocked(request, cache: Cache):
    """Cut off in the middle: one answer is there, the second comes late, the third after it."""
    async with cache.pipeline(transaction=False) as pipe:
        await pipe.incr("done").blpop("nothing", 2).echo("of the pipeline").execute()


@routes.get("/caught")
async def caught(request, cache: Cache):
    """The same client goes on with its only connection."""
    pipe = cache.pipeline(transaction=False)
    with pytest.raises(Exception, match=r"(?i)timeout"):
        await pipe.echo("first").blpop("nothing", 2).echo("of the pipeline").execute()
    return (await cache.echo("the next")).decode()


@routes.get("/look")
async def look(request, cache: Cache):
    """Within WATCH a pipeline's commands are done at once, one by one."""
    async with cache.pipeline() as pipe:
        await pipe.watch("a")
        await pipe.blpop("nothing", 2)


@routes.get("/echo/{word}")
async def echo(request, word: str, cache: Cache):
    return (await cache.echo(word)).decode()


class Shop(Container):
    def make_engines(self):
        return {"cache": Redis("env:URL", max=1, timeout=0.2)}

    def make_servers(self):
        return {"http": HTTPServer(routes)}


@pytest.fixture
async def client(redis_server, monkeypatch):
    url = f"unix://:hidden-word@{redis_server.socket}"
    monkeypatch.setenv("URL", url)
    shop = Shop({}, SimpleNamespace(name="1.1"), asyncio.get_running_loop())
    async with Client(shop) as found:
        found.engine = shop.engines["cache"]
        yield found


@BOTH
@pytest.mark.parametrize("path", ["/blocked", "/look"])
async def test_it_is_503_and_the_next_has_its_own_answer(client, path, caplog):
    late, *echoes = await asyncio.gather(
        client.get(path), *(client.get(f"/echo/{number}") for number in range(20)))
    assert (late.status, late.headers.get("retry-after")) == (503, "1")
    assert [answer.text for answer in echoes] == [str(number) for number in range(20)]
    told = client.engine.statistics()
    assert (told["errors"], told["size"], told["busy"]) == (1, 1, 0)
    assert len([one for one in caplog.messages if "took longer than it may" in one]) == 1


@BOTH
async def test_it_is_not_done_twice(client):
    async with client.engine.connection() as redis:
        await redis.delete("done")
    assert (await client.get("/blocked")).status == 503
    async with client.engine.connection() as redis:
        assert await redis.get("done") == b"1"


@BOTH
async def test_one_that_is_caught_leaves_its_client_usable(client):
    assert (await client.get("/caught")).text == "the next"
    assert client.engine.statistics()["errors"] == 1


class Slow:
    """A server that answers ECHO, and of a pipeline the first `size` bytes, the rest late."""

    def __init__(self, size):
        self.size = size
        self.connections = 0
        self.late = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while words := await self.command(reader):
                name = words[0].upper()
                if name == b"MULTI":
                    await self.pipeline(reader, writer)
                elif name == b"ECHO":
                    writer.write(b"$%d\r\n%s\r\n" % (len(words[1]), words[1]))
                elif name == b"HELLO":
                    writer.write(b"-ERR unknown command\r\n")
                else:
                    writer.write(b"+PONG\r\n" if name == b"PING" else b"+OK\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def pipeline(self, reader, writer):
        while (await self.command(reader))[0].upper() != b"EXEC":
            pass
        answer = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$5\r\nfirst\r\n$6\r\nsecond\r\n"
        writer.write(answer[:self.size])
        await self.late.wait()
        writer.write(answer[self.size:])

    async def command(self, reader):
        count = int((await reader.readline())[1:] or 0)
        words = []
        for _ in range(count):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        return words


@pytest.mark.parametrize("size", [0, 3, 5, 14, 23, 27, 36, 38, 48])
async def test_wherever_a_transaction_is_cut_off(tmp_path, size):
    slow = Slow(size)
    server = await asyncio.start_unix_server(slow.serve, tmp_path / "sock")
    url = f"unix://{tmp_path}/sock?protocol=2"
    async with server, running(Redis(url, max=1, timeout=0.1)) as engine:
        made = slow.connections

        async def cut(watches):
            async with engine.connection() as redis, redis.pipeline() as pipe:
                if watches:
                    await pipe.watch("a")
                    pipe.multi()
                await pipe.echo("first").echo("second").execute()

        async def echo(number):
            async with engine.connection() as redis:
                return await redis.echo(f"{number}")

        for watches in (False, True):
            late, *words = await asyncio.gather(
                cut(watches), *map(echo, range(3)), return_exceptions=True)
            slow.late.set()
            assert isinstance(late, TimeoutError)
            assert vars(late)["http_status"] == 503
            assert words == [b"0", b"1", b"2"]
            assert await echo("late") == b"late"
            slow.late.clear()
        assert slow.connections == made + 2, "none was used again"
        assert engine.statistics()["errors"] == 2
        slow.late.set()


async def test_a_pipeline_that_is_never_closed_keeps_nobody_waiting(redis_server, caplog):
    """What it holds is the only connection of its client, which is given up with it."""
    async with running(Redis(f"unix://:hidden-word@{redis_server.socket}", max=1)) as engine:
        async with engine.connection() as redis:
            left = redis.pipeline()
            await left.watch("a")
        async with asyncio.timeout(4), engine.connection() as redis:
            assert await redis.echo("next") == b"next"
        assert engine.statistics()["size"] == engine.statistics()["errors"] == 1
    [said] = caplog.messages
    assert said.endswith("a connection is closed, as its state is not known (RuntimeError: a "
                         "pipeline or a subscription was left open)")
