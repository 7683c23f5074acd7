"""Hostile and slow clients of an ASGI application: bounded in time and memory, and alone in it.

Each has a bystander, who is served meanwhile.
"""

import asyncio
import contextlib
import time
import tracemalloc

import pytest

from tests.apihour_http.support import wait_until

from .support import FINAL, PATIENCE, body_of, frame, get, open_socket, read_frame, served

MB = 1 << 20
QUICK = {"header_timeout": 0.3, "body_timeout": 0.3, "body_rate": 1000.0, "keepalive": 0.3,
         "write_timeout": 0.5}


async def app(scope, receive, send):
    """Answers, streams without end at /stream, echoes WebSockets, or never reads them at /deaf."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/deaf":
            await asyncio.sleep(PATIENCE)
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
        return
    text = b"" if scope["path"] == "/unread" else await body_of(receive)
    await send({"type": "http.response.start", "status": 200})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    if scope["path"] == "/unread":
        await asyncio.sleep(PATIENCE)
    await send({"type": "http.response.body", "body": b"%d" % len(text)})


@contextlib.asynccontextmanager
async def bystander(at, longest=4.0):
    """Ask all the time; the slowest answer must come within `longest` seconds."""
    slowest = 0.0
    over = False  # not cancelled: the wait_for of CPython 3.11 may lose that
    peer = await at.connect()

    async def ask():
        nonlocal slowest
        while not over:
            begun = time.monotonic()
            peer.send(get("/"))
            await peer.answer(PATIENCE)
            slowest = max(slowest, time.monotonic() - begun)
            await asyncio.sleep(0.005)

    task = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        over = True
        await task
        peer.close()
    assert slowest < longest, slowest


async def test_a_slow_head_a_slow_body_and_silence_end_in_time():
    async with served(app, **QUICK) as at, bystander(at):
        silent, head, body = [await at.connect() for _ in range(3)]
        head.send(b"GET /")
        body.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nx")

        async def trickle(peer, byte):
            with contextlib.suppress(ConnectionError):
                while True:
                    peer.send(byte)
                    await asyncio.sleep(0.05)

        tasks = [asyncio.ensure_future(trickle(head, b"x")),
                 asyncio.ensure_future(trickle(body, b"x"))]
        assert (await head.answer(PATIENCE)).status == 408
        assert (await body.answer(PATIENCE)).status == 408
        assert await silent.rest(PATIENCE) == b""
        for task in tasks:
            task.cancel()
        for peer in (silent, head, body):
            peer.close()
        await wait_until(lambda: at.record["connections"] == 1, PATIENCE)


async def test_a_client_that_never_reads_is_cut_off():
    async with served(app, **QUICK) as at, bystander(at):
        peer = await at.connect(limit=1024)
        peer.writer.transport.pause_reading()
        peer.send(get("/stream"))
        await wait_until(lambda: at.record["tasks"] >= 1, PATIENCE)
        await wait_until(lambda: at.record["connections"] == 1, PATIENCE)
        peer.close()


async def flood(peer, data, seconds):
    """Write as fast as the server takes it, and read nothing; returns the bytes that were taken."""
    transport = peer.writer.transport
    transport.pause_reading()
    transport.set_write_buffer_limits(high=0)
    taken, end = 0, time.monotonic() + seconds
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < end:
            peer.send(data)
            await asyncio.wait_for(peer.writer.drain(), 0.3)
            taken += len(data)
    return taken


@pytest.fixture
def memory():
    """The most Python memory that was in use since the test began, in MB."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MB
    tracemalloc.stop()


FLOODS = {
    "pipeline": (None, get("/") * 500),
    "pings": ("/", frame(FINAL | 9, bytes(125)) * 500),
    "messages nobody receives": ("/deaf", frame(FINAL | 1, b"x" * 100) * 500),
    "messages whose echoes nobody reads": ("/", frame(FINAL | 1, b"x" * 1000) * 100),
    "empty fragments": ("/", frame(1) + frame(0) * 10_000),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_of_two_clients_leave_memory_and_others_alone(name, memory):
    path, data = FLOODS[name]
    # Who is not read from is found gone by a ping.
    async with served(app, ws_ping_interval=0.5) as at:
        if path is None:
            peers = [await at.connect(), await at.connect()]
        else:
            peers = [await open_socket(at, path), await open_socket(at, path)]
        first = data
        rest = data[len(frame(1)):] if name == "empty fragments" else data
        before = memory()
        async with bystander(at):
            for peer in peers:
                peer.send(first)
            taken = await asyncio.gather(*[flood(peer, rest, 1.0) for peer in peers])
            for peer in peers:
                peer.writer.transport.abort()
        assert all(taken) or path is None
        assert memory() - before < 8, (memory(), taken)
        await wait_until(lambda: at.record["connections"] <= 1, PATIENCE)


async def test_an_upload_nobody_reads_waits_with_its_client(memory):
    async with served(app) as at, bystander(at):
        peer = await at.connect()
        peer.send(b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        before = memory()
        await flood(peer, bytes(100_000), 1.0)
        assert memory() - before < 4
        peer.writer.transport.abort()


async def test_a_compressed_bomb_is_a_message_that_is_too_long(memory):
    import zlib

    squeeze = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = squeeze.compress(bytes(200 * MB)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    async with served(app, ws_max_size=MB) as at:
        peer = await open_socket(
            at, "/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        before = memory()
        peer.send(frame(FINAL | 0x40 | 2, bomb[:-4]))
        first, payload = await read_frame(peer)
        assert (first, int.from_bytes(payload[:2], "big")) == (FINAL | 8, 1009)
        assert memory() - before < 8
        peer.close()


async def test_small_messages_that_each_cost_something_keep_nobody_waiting():
    count, gaps = 3000, []

    async def slow(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(count):  # each is there already when it is asked for
            await receive()
            until = time.monotonic() + 0.0005
            while time.monotonic() < until:
                pass
        await send({"type": "websocket.close"})

    async def watch():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async with served(slow) as at:
        peer = await open_socket(at)
        watcher = asyncio.ensure_future(watch())
        peer.send(frame(FINAL | 1, b"x") * count)
        first, payload = await read_frame(peer)
        while first == FINAL | 9:  # a ping, on a machine that takes its time
            first, payload = await read_frame(peer)
        watcher.cancel()
        peer.close()
    assert (first, payload[:2]) == (FINAL | 8, (1000).to_bytes(2, "big"))
    # All of them take 1.5 s, and took it at a stretch; a turn is 2 ms, on a machine that is idle.
    assert max(gaps) < 0.5, sorted(gaps)[-5:]
