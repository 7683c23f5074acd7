"""The goodbye of a connection in two steps: nothing that was asked is lost."""

from __future__ import annotations

import asyncio

from apihour_http import SSE, Routes
from tests.apihour_http.support import context, serving, wait_until

from .support import BLOCK, connected, head, raw

MOST = (1 << 31) - 1

routes = Routes()


@routes.get("/")
def now(request):
    return {}


@routes.get("/slow")
async def slow(request):
    await request.container["go"].wait()
    return {"slow": True}


@routes.get("/events")
def events(request):
    async def feed():
        yield {"n": 1}
        await asyncio.sleep(3600)
    return SSE(feed(), goodbye="bye")


async def drained(server):
    await server.drain(asyncio.get_running_loop().time() + 30)


async def test_what_was_asked_is_answered_and_nothing_is_taken_twice():
    go = asyncio.Event()
    told = context(container={"go": go})
    async with serving(routes, context=told) as served, connected(served) as client:
        first = client.ask(path="/slow")
        await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        draining = asyncio.create_task(drained(served.server))
        await asyncio.sleep(0)
        # On its way while the server says goodbye: it still counts.
        late = client.ask(path="/slow")
        await client.until(lambda: len(client.goaways) == 2)
        assert client.goaways == [(MOST, 0), (late, 0)]
        assert not draining.done()
        go.set()
        assert (await client.reply(first)).body == b'{"slow":true}'
        assert (await client.reply(late)).body == b'{"slow":true}'
        assert await client.closed() == (late, 0)
        client.close()
        await asyncio.wait_for(draining, 30)


async def test_an_idle_connection_goes_at_once():
    async with serving(routes, context=context()) as served, connected(served) as client:
        await client.get("/")
        draining = asyncio.create_task(drained(served.server))
        await client.closed()
        assert client.goaways == [(MOST, 0), (1, 0)]
        client.close()
        await asyncio.wait_for(draining, 30)


async def test_one_who_asks_too_late_is_told_so():
    go = asyncio.Event()
    told = context(container={"go": go})
    async with serving(routes, context=told) as served, raw(served) as peer:
        peer.send(head(1, BLOCK[:2] + b"\x04\x05/slow" + BLOCK[3:]))
        await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        draining = asyncio.create_task(drained(served.server))
        # It does not answer the PING: the second step comes by itself.
        goaways = [(await peer.frames(until=7))[-1][3] for _ in range(2)]
        assert goaways == [MOST.to_bytes(4, "big") + bytes(4), b"\0\0\0\x01" + bytes(4)]
        peer.send(head(3))
        assert (await peer.frames(until=3))[-1] == (3, 0, 3, b"\0\0\0\x07")  # REFUSED_STREAM
        go.set()
        assert [kind for kind, *_ in await peer.frames(until=7)] == [1, 0, 7]
        peer.writer.close()
        await asyncio.wait_for(draining, 30)


async def test_a_feed_says_goodbye():
    async with serving(routes, context=context()) as served, connected(served) as client:
        number = client.ask(path="/events")
        reply = client.replies[number]
        await client.until(lambda: reply.body)
        draining = asyncio.create_task(drained(served.server))
        await client.reply(number)
        assert reply.ended
        assert reply.body == b'data: {"n":1}\n\ndata: bye\n\n'
        await client.closed()
        client.close()
        await asyncio.wait_for(draining, 30)


async def test_who_comes_while_it_drains_is_answered_and_told():
    async with serving(routes, context=context()) as served, connected(served) as client:
        served.server.now.drain(0.0, 1.0)
        assert (await client.get("/")).status == 200
        assert await client.closed() == (1, 0)
