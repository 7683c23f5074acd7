"""Any frames in any order: nothing but what is meant is raised, and nothing stays behind."""

from __future__ import annotations

import asyncio
import random

import hpack
import pytest
from aiohttp import web

from apihour_http import HTTPServer, Routes, Stream
from apihour_http.connection.connection import UnhostedRow
from apihour_http.http2.multiplexer import HTTP2Connection

from .support import PREFACE, frame

routes = Routes()


@routes.get("/")
def root(request):
    return {}


@routes.post("/")
async def echo(request):
    return await request.read()


@routes.post("/upload", stream_body=True, max_body=1 << 20)
async def upload(request):
    return {"size": sum([len(piece) async for piece in request.stream()])}


@routes.get("/stream")
def stream(request):
    async def pieces():
        for _ in range(50):
            yield bytes(1000)
            await asyncio.sleep(0)
    return Stream(pieces())


async def hello(request):
    return web.Response(text=str(len(await request.read())))


class Transport(asyncio.Transport):
    """Takes what is written, and now and then no more."""

    def __init__(self, chance):
        super().__init__()
        self.chance, self.closed, self.paused, self.protocol = chance, False, False, None

    def write(self, data):
        if not self.closed and not self.paused and self.chance.random() < 0.05:
            self.paused = True
            self.protocol.pause_writing()
            asyncio.get_running_loop().call_soon(self.go_on)

    def go_on(self):
        self.paused = False
        if not self.closed:
            self.protocol.resume_writing()

    def close(self):
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close
    pause_reading = resume_reading = write_eof = lambda self: None
    can_write_eof = lambda self: True  # noqa: E731
    is_closing = lambda self: self.closed  # noqa: E731
    get_write_buffer_size = lambda self: 0  # noqa: E731

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 9) if name in ("peername", "sockname") else default


REQUESTS = [(b"GET", b"/"), (b"POST", b"/"), (b"POST", b"/upload"), (b"GET", b"/stream"),
            (b"GET", b"/app"), (b"POST", b"/app"), (b"HEAD", b"/stream"), (b"GET", b"/none")]
SETTINGS = [b"", b"\0\4\0\0\0\0", b"\0\4\0\0\0\x0a", b"\0\4\0\1\0\0", b"\0\1\0\0\0\0"]


def frames(chance):
    """Frames of a client that is not quite right."""
    encoder, begun = hpack.Encoder(), 1
    for _ in range(chance.randint(1, 100)):
        number = chance.randrange(1, begun + 2, 2)
        match chance.choices(range(8), (45, 20, 7, 8, 4, 4, 2, 1))[0]:
            case 0:
                method, path = chance.choice(REQUESTS)
                head = [(b":method", method), (b":scheme", b"http"), (b":authority", b"x"),
                        (b":path", path)]
                if chance.random() < 0.2:
                    head.append((b"content-length", chance.choice([b"0", b"5", b"999999999"])))
                if chance.random() < 0.1:
                    head.append((b"expect", b"100-continue"))
                yield frame(1, 4 | chance.randint(0, 1), begun, encoder.encode(head))
                begun += 2
            case 1:
                yield frame(0, chance.choice([0, 0, 1]), number,
                            bytes(chance.choice([0, 1, 100, 16384])))
            case 2:
                yield frame(3, 0, number, b"\0\0\0\x08")
            case 3:
                yield frame(8, 0, chance.choice([0, number]), b"\0\0\1\0")
            case 4:
                yield frame(4, 0, 0, chance.choice(SETTINGS))
            case 5:
                yield frame(6, 0, 0, bytes(8))
            case 6:
                yield frame(1, 5, number, encoder.encode([(b"x-t", b"1")]))
            case _:
                yield chance.randbytes(20)


async def converse(chance, service):
    transport = Transport(chance)
    transport.protocol = connection = HTTP2Connection(service, UnhostedRow())
    connection.connection_made(transport)
    data = PREFACE + frame(4, 0, 0, chance.choice(SETTINGS))
    for each in frames(chance):
        data += each
        if chance.random() < 0.4:
            cut = chance.randint(0, len(data))
            for part in (data[:cut], data[cut:]):
                if part and not transport.closed:
                    connection.data_received(part)
                    await asyncio.sleep(0)
            data = b""
    if chance.random() < 0.3:
        connection.drain()
    if chance.random() < 0.5 and not transport.closed and not connection.eof_received():
        transport.close()
    for _ in range(chance.randint(0, 60)):
        await asyncio.sleep(0)
    transport.close()
    await asyncio.sleep(0)
    assert not connection.streams
    assert not connection.kept


@pytest.mark.parametrize("begin", range(0, 200, 50))
async def test_any_frames(begin):
    app = web.Application()
    app.router.add_route("*", "/app", hello)
    server = HTTPServer(routes, app)
    await server.start()
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    for seed in range(begin, begin + 50):
        await converse(random.Random(seed), server.service)
        assert errors == [], seed
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=30)
    assert not asyncio.all_tasks() - {asyncio.current_task()}
    assert server.statistics()["connections"] == 0
    await server.stop()
