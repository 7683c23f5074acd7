"""What a hostile client may take: each flood ends its connection, each stall its stream."""

from __future__ import annotations

import asyncio
import contextlib

import hpack
import pytest

from apihour_http import Routes
from apihour_http.http2.allowance import FRAME, MOST_STREAMS, RESET, STREAM_WINDOW, Allowance
from apihour_http.http2.fieldblocks import integer
from apihour_http.http2.frame_bytes import ConnectionBroken
from tests.apihour_http.support import serving, wait_until

from .support import BLOCK, PREFACE, connected, frame, head, raw

CALM, PROTOCOL, CANCEL, REFUSED = 11, 1, 8, 7

routes = Routes()
running = 0


@routes.get("/")
async def wait(request):
    global running
    running += 1
    try:
        await asyncio.sleep(3600)
    finally:
        running -= 1


@routes.get("/now")
def now(request):
    return {}


@routes.get("/big")
def big(request):
    return bytes(1 << 20)


@routes.post("/body")
async def body(request):
    return {"size": len(request.body)}


@routes.post("/unread", stream_body=True, max_body=1 << 30)
async def unread(request):
    await asyncio.sleep(3600)


def settings(count):
    return frame(4, 0, 0, b"\x00\x09\x00\x00\x00\x00" * count)


FLOODS = {
    "rapid reset": lambda n: head(n) + frame(3, 0, n, b"\0\0\0\x08"),
    "settings": lambda n: frame(4, 0, 0),
    "long settings": lambda n: settings(100),
    "pings": lambda n: frame(6, 0, 0, bytes(8)),
    "priorities": lambda n: frame(2, 0, n, bytes(5)),
    "unknown frames": lambda n: frame(77, 0, 0),
    "window updates": lambda n: frame(8, 0, 0, b"\0\0\0\x01"),
    "goaways": lambda n: frame(7, 0, 0, bytes(8)),
    # CVE-2025-8671: the client breaks its own streams, and the server resets them.
    "resets by us": lambda n: head(n) + frame(8, 0, n, bytes(4)),
    "malformed heads": lambda n: head(n, b"\x82"),
    "refused streams": lambda n: head(n),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection(flood):
    async with serving(routes) as served, raw(served) as peer:
        for n in range(1, 3001, 2):
            peer.send(FLOODS[flood](n))
        assert await peer.goaway() == CALM
        # What was begun for it does not outnumber what a connection may have.
        assert running <= MOST_STREAMS
        peer.writer.close()
        await wait_until(lambda: not served.server.connections, 30)
        assert served.server.statistics()["refused"] == 1


async def test_empty_data_ends_its_connection():
    async with serving(routes) as served, raw(served) as peer:
        peer.send(head(1, b"\x83" + BLOCK[1:], 4), frame(0, 0, 1) * 2000)
        assert await peer.goaway() == CALM


@pytest.mark.parametrize("frames", [
    frame(1, 1, 1, BLOCK) + frame(9, 0, 1) * 40,  # CONTINUATION that does not end
    frame(1, 1, 1, BLOCK) + frame(9, 0, 1, b"\x40\x01a\x7f\x00" + bytes(16000)) * 5,
    (head(1, BLOCK + b"\x40\x01a" + integer(3900, 7, 0) + b"x" * 3900)
     + head(3, BLOCK + b"\xbf" * 100)),
])
async def test_heads_that_do_not_end(frames):
    async with serving(routes) as served, raw(served) as peer:
        peer.send(frames)
        assert await peer.goaway() == CALM


async def test_requests_that_run_on_after_a_reset_still_count():
    async with serving(routes) as served, connected(served) as client:
        for _ in range(MOST_STREAMS):
            client.reset(client.ask())
        reply = await client.get("/now")
        assert reply.reset == REFUSED
        assert running == MOST_STREAMS


async def test_as_many_streams_as_are_allowed():
    async with serving(routes) as served, connected(served) as client:
        await client.until(lambda: client.settings)
        assert client.settings[3] == MOST_STREAMS
        for _ in range(MOST_STREAMS):
            client.ask()
        await wait_until(lambda: served.server.statistics()["in_flight"] == MOST_STREAMS, 30)
        peer_number = 2 * MOST_STREAMS + 1
        client.raw(head(peer_number, b"\x82\x86\x84\x01\x01x"))
        client.h2.highest_outbound_stream_id = peer_number
        await wait_until(lambda: served.server.statistics()["in_flight"] == MOST_STREAMS, 30)
        assert not client.goaways


async def test_a_head_that_is_too_long_is_answered():
    limits = {"max_field": 1000, "max_fields": 20}
    async with serving(routes, **limits) as served, connected(served) as client:
        assert (await client.get("/now", (b"x", b"y" * 2000))).status == 431
        many = [(b"x-%d" % n, b"y") for n in range(30)]
        assert (await client.get("/now", *many)).status == 431
        assert (await client.get("/" + "x" * 9000)).status == 414
        assert (await client.get("/now")).status == 200


@pytest.mark.parametrize("fields", [
    [(b"connection", b"close")], [(b"te", b"gzip")], [(b"X-Upper", b"1")],
    [(b"x", b"a\nb")], [(b"x", b"a\0")], [(b"x", b" a")], [(b"bad name", b"a")],
    [(b":path", b"/b")], [(b"host", b"other")], [(b"transfer-encoding", b"chunked")],
])
async def test_a_malformed_head_ends_its_stream(fields):
    async with serving(routes) as served, raw(served) as peer:
        peer.send(head(1, hpack.Encoder().encode([
            (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"),
            (b":path", b"/now"), *fields])))
        assert (await peer.frames(until=3))[-1] == (3, 0, 1, b"\0\0\0\x01")
        peer.send(frame(6, 0, 0, b"12345678"))  # the others are not concerned
        assert (await peer.frames(until=6))[-1] == (6, 1, 0, b"12345678")


@pytest.mark.parametrize(("length", "sent"), [(b"5", b"four"), (b"5", b"sixsix")])
async def test_a_body_of_another_length_ends_its_stream(length, sent):
    async with serving(routes) as served, raw(served) as peer:
        peer.send(head(1, hpack.Encoder().encode([
            (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"),
            (b":path", b"/body"), (b"content-length", length)]), 4), frame(0, 1, 1, sent))
        assert (await peer.frames(until=3))[-1][3] == b"\0\0\0\x01"


async def test_a_client_without_a_window_gets_nothing_and_no_memory():
    async with (serving(routes, write_timeout=0.5) as served,
                connected(served, acknowledges=False) as client):
        reply = await client.reply(client.ask(path="/big"))
        # What its window had room for, then the end of its patience.
        assert (reply.reset, len(reply.body)) == (CANCEL, 65535)
        await wait_until(lambda: served.server.statistics()["in_flight"] == 0)


async def test_a_body_that_nobody_reads_stops_at_its_window():
    async with serving(routes) as served, connected(served) as client:
        number = client.ask("POST", "/unread", ends=False)
        await client.until(lambda: client.settings)
        sent = 0
        (connection,) = served.server.connections
        while connection.streams.get(1) is None or connection.streams[1].window_in:
            if room := min(client.h2.local_flow_control_window(number), 16384):
                client.h2.send_data(number, bytes(room))
                sent += room
                client.flush()
                await asyncio.sleep(0)
            else:
                with contextlib.suppress(TimeoutError):
                    await client.read(0.05)
        # What is kept for the endpoint, and a window that nobody opens.
        assert sent <= 65536 + STREAM_WINDOW
        # Others still have room: the window of the connection is eight times that.
        assert (await client.get("/body", method="POST", body=bytes(10000))).status == 200


async def test_slow_bodies_and_heads_are_ended():
    async with serving(routes, body_timeout=0.3, header_timeout=0.3, body_rate=100_000) as served:
        async with connected(served) as client:
            reply = await client.reply(client.ask("POST", "/body", ends=False))
            assert reply.status == 408
        async with raw(served) as peer:
            peer.send(head(1)[:12])
            assert await peer.goaway() == CALM
        async with raw(served) as peer:
            peer.send(frame(1, 1, 1, BLOCK))  # CONTINUATION never comes
            assert await peer.goaway() == CALM
        async with raw(served, settle=False) as peer:
            peer.send(PREFACE)  # nor do the SETTINGS
            assert await peer.goaway() == CALM
        assert served.server.statistics()["timeouts"] == 4


async def test_an_idle_connection_is_closed():
    async with serving(routes, keepalive=0.3) as served, connected(served) as client:
        assert (await client.get("/now")).status == 200
        assert await client.closed() == (1, 0)


async def test_kept_bodies_are_bounded_in_sum(monkeypatch):
    monkeypatch.setattr("apihour_http.http2.multiplexer._MOST_KEPT", 100_000)
    async with serving(routes, max_body=400_000) as served, connected(served) as client:
        await client.until(lambda: client.settings)
        numbers = [client.ask("POST", "/body", ends=False) for _ in range(4)]
        left = dict.fromkeys(numbers, 400_000)
        (connection,) = served.server.connections
        most = 0
        while left:
            moved = False
            for number in list(left):
                room = min(client.h2.local_flow_control_window(number), 16384, left[number])
                if room:
                    moved = True
                    client.h2.send_data(number, bytes(room))
                    left[number] -= room
                    if not left[number]:
                        client.h2.end_stream(number)
                        del left[number]
                    client.flush()
            if not moved:
                await client.read()
            most = max(most, connection.kept)
        client.flush()
        for number in numbers:
            assert (await client.reply(number)).body == b'{"size":400000}'
        # The oldest, the sum, and a window of each of the others.
        assert most <= 400_000 + 100_000 + 3 * (1 << 17)
        assert connection.kept == 0


def test_an_allowance_comes_back():
    allowance = Allowance(0.0)
    for _ in range(200):
        allowance.spend(RESET, 0.0)
    with pytest.raises(ConnectionBroken):
        allowance.spend(FRAME, 0.001)
    allowance = Allowance(0.0)
    for _ in range(200):
        allowance.spend(RESET, 0.0)
    allowance.spend(RESET, 10.0)
    allowance.give(2)
