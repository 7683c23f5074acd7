"""Redis by redis-py, with a real server."""

import asyncio
import logging

import pytest

from apihour.engines import Redis
from apihour.engines.driver import Purpose
from apihour.errors import EngineDownError
from tests.apihour.engines.support import running, until
from tests.databases import BOTH


@pytest.fixture
def url(redis_server):
    return f"unix://:hidden-word@{redis_server.socket}"


@BOTH
async def test_a_client_of_one_connection(url):
    async with running(Redis(url, max=2), name="cache") as engine:
        async with engine.connection() as redis:
            await redis.set("a", "1")
            async with redis.pipeline(transaction=True) as pipe:
                assert await pipe.incr("a").get("a").execute() == [2, b"2"]
            told = engine.statistics()
            assert (told["size"], told["busy"], told["up"]) == (1, 1, True)
            assert (await redis.client_info())["name"] == "apihour-cache"
            assert len(await redis.client_list()) == 1
        with pytest.raises(Exception, match="wrong number"):
            async with engine.connection() as redis:
                await redis.execute_command("GET")
        told = engine.statistics()
        assert told["errors"] == 1 and told["slowest"] > 0
        assert "a" not in told["slowest_query"].split(), "keys are data; CLIENT LIST has two words"
        assert "hidden" not in repr(engine)


@BOTH
async def test_none_leaks_and_no_answer_is_anothers(url):
    async with running(Redis(url, max=1)) as engine:

        async def one(number):
            async with engine.connection() as redis:
                assert await redis.echo(f"{number}") == f"{number}".encode()
                if number % 3 == 0:
                    await redis.blpop("nothing", 60)

        for number in range(1000):
            task = asyncio.create_task(one(number))
            for _ in range(number % 23):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
        await until(lambda: engine.statistics()["busy"] == 0, "every connection back")
        async with engine.connection() as redis:
            assert await redis.echo("last") == b"last"
        assert engine.statistics()["size"] == 1


async def test_a_server_that_restarts_is_found_again(redis_server, url, caplog):
    caplog.set_level(logging.INFO)
    async with running(Redis(url, health=True, wait=30.0)) as engine:
        redis_server.halt()
        try:
            await until(lambda: not engine.up, "it is known to be down")
        finally:
            redis_server.start()
        async with engine.connection() as redis:
            assert await redis.ping()
        await until(lambda: engine.up, "it is up")
    assert "hidden" not in caplog.text


async def test_a_wrong_password_is_told_without_it(redis_server):
    with pytest.raises(EngineDownError, match=r"(?i)password|auth") as failure:
        async with running(Redis(f"unix://:another-secret@{redis_server.socket}",
                                 start_timeout=0.3)):
            pass
    assert "another-secret" not in str(failure.value)


def test_it_has_no_transactions():
    with pytest.raises(ValueError, match=r"expected Resource\(\), and redis.pipeline\(\)"):
        Redis("redis://h").user(Purpose(True))


def test_where_it_is():
    assert Redis("rediss://:hidden@cache:6380/2").examine() == "cache:6380/2"
    assert Redis("valkey://:hidden@cache/2").examine() == "cache/2"
