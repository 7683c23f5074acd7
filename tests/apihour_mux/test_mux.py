"""Several protocols on one port: who is told apart, by how little, and what becomes of the rest."""

import asyncio
import contextlib
import random

import pytest
from apihour_mux import Mux, MuxEntry
from apihour_mux.adapter import plugin
from apihour_mux.matchers import KNOWN

from apihour.plugins import Server
from apihour_http import HTTPServer, Routes
from apihour_tcp import TCPServer
from tests.apihour_http.support import wait_until

PATIENCE = 30.0
routes = Routes()


@routes.get("/")
async def index(request):
    return {"path": request.path}


class Named(asyncio.Protocol):
    """Says its name and what it got."""

    name = b"?"

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(self.name + b":" + data)


class Raw(Named):
    name = b"raw"


class SSH(Named):
    name = b"ssh"


class Greeter(Named):
    name = b"greeter"

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.write(b"220 welcome\r\n")


class Buffered(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray(3)

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, size):
        self.transport.write(b"<" + self.buffer[:size] + b">")


@contextlib.asynccontextmanager
async def served(servers, **options):
    mux = Mux(servers, **options)
    await mux.start()
    listener = await asyncio.get_running_loop().create_server(mux.stream, "127.0.0.1", 0)
    try:
        yield mux, listener.sockets[0].getsockname()
    finally:
        listener.close()
        await mux.stop()


async def talk(address, *pieces, until):
    reader, writer = await asyncio.open_connection(*address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001 if len(pieces) > 1 else 0)
        return await asyncio.wait_for(reader.readuntil(until), PATIENCE)
    finally:
        writer.close()


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_each_gets_its_own_whole_and_in_pieces():
    async with served({"http": HTTPServer(routes), "ssh": SSH, "default": Raw}) as (mux, address):
        for step in (1, 1000):
            for data, until, name in ((REQUEST, b"}", b"HTTP/1.1 200"),
                                      (b"\x01\x02\n", b"\n", b"raw:"),
                                      (b"SSH-2.0-x\r\n", b"\n", b"ssh:")):
                pieces = [data[at:at + step] for at in range(0, len(data), step)]
                got = await talk(address, *pieces, until=until)
                assert got.startswith(name), got
        assert mux.statistics()["requests"] == 2 and mux.statistics()["unknown"] == 0


async def test_of_many_mixed_at_once_none_is_mistaken():
    kinds = {"http": (REQUEST, b"}", b"HTTP/1.1 200"), "ssh": (b"SSH-2.0-x\r\n", b"\n", b"ssh:"),
             "raw": (b"\x7fELF\n", b"\n", b"raw:"), "mine": (b"MINE\n", b"\n", b"mine:")}
    order = random.Random(1)

    class Mine(Named):
        name = b"mine"

    mine = MuxEntry(lambda data: None if b"MINE".startswith(data) and data != b"MINE"
                    else data.startswith(b"MINE"), Mine)

    async def one(kind):
        data, until, expected = kinds[kind]
        cut = order.randrange(len(data))
        got = await talk(address, data[:cut], data[cut:], until=until)
        # What came in two pieces may be answered in two.
        assert got.startswith(expected), (kind, got)

    async with served({"own": mine, "http": HTTPServer(routes), "ssh": SSH, "default": Raw}
                      ) as (mux, address):
        for _ in range(10):
            await asyncio.gather(*(one(order.choice(list(kinds))) for _ in range(50)))
        assert mux.statistics()["unknown"] == 0


async def test_who_says_nothing_is_greeted_by_the_default_and_else_closed():
    async with served({"http": HTTPServer(routes), "default": Greeter}, timeout=0.05) as (
            _, address):
        assert await talk(address, until=b"\n") == b"220 welcome\r\n"
    async with served({"http": HTTPServer(routes)}, timeout=0.05) as (mux, address):
        for data in (b"", b"GE", b"\x00\x01"):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await talk(address, data, until=b"\n")
        assert mux.statistics()["unknown"] == 3


async def test_who_closes_its_side_early_is_served_as_far_as_it_is_known():
    async with served({"http": HTTPServer(routes), "default": Raw}) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GE")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"raw:GE"
        writer.close()


async def test_buffered_protocols_and_long_beginnings():
    async with served({"default": Buffered}) as (_, address):
        assert await talk(address, b"abcdefg\n", until=b"\n>") == b"<abc><def><g\n>"
    async with served({"own": MuxEntry(lambda data: None, SSH), "default": Raw}) as (_, address):
        got = await talk(address, b"x" * 5000 + b"\n", until=b"\n")
        assert got.startswith(b"raw:x")


@pytest.mark.parametrize(("data", "name"), [
    (b"GET / HTTP/1.1\r\n", "http"), (b"\r\nPOST /x HTTP/1.1", "http"),
    (b"M-SEARCH * HTTP/1.1", "http"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"), (b"PRIMES /x HTTP/1.1", "http"),
    (b"SSH-2.0-OpenSSH\r\n", "ssh"), (b"\x16\x03\x01\x02\x00", "tls"),
    (b"\x16\x02", None), (b"get / ", None), (b"HELO", None), (b"EHLO mail\r\n", "http"),
    (b"\x00", None), (b"SSX", None), (b"GET\r\n", None),
])
def test_what_is_known_of_first_bytes(data, name):
    for length in range(1, len(data)):
        verdicts = {known: matcher(data[:length]) for known, matcher in KNOWN.items()}
        for known, verdict in verdicts.items():
            assert verdict is not True or known == name
            assert known != name or verdict is not False
    assert [known for known, matcher in KNOWN.items() if matcher(data)] == ([name] if name else [])


async def test_drain_waits_for_those_that_have_not_spoken():
    loop = asyncio.get_running_loop()
    async with served({"http": HTTPServer(routes, linger=0.1), "default": Raw}) as (mux, address):
        reader, writer = await asyncio.open_connection(*address)
        await wait_until(lambda: mux._peeking)
        task = asyncio.ensure_future(mux.drain(loop.time() + PATIENCE))
        await wait_until(lambda: mux._servers["http"].now.draining)
        writer.write(REQUEST)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 200") and b"connection: close" in head.lower()
        writer.close()
        await asyncio.wait_for(task, PATIENCE)


async def test_stop_after_a_partial_start():
    events = []

    class Part(TCPServer):
        def __init__(self, name, fails=False):
            super().__init__(Raw)
            self.name, self.fails = name, fails

        async def start(self, context=None):
            events.append(f"start {self.name}")
            if self.fails:
                raise ValueError("no port in a storm")

        async def stop(self):
            events.append(f"stop {self.name}")

    mux = Mux({"ssh": Part("a"), "http": Part("b", fails=True), "default": Part("c")})
    with pytest.raises(ValueError, match="storm"):
        await mux.start()
    await mux.stop()
    assert events == ["start a", "start b", "stop b", "stop a"]


def test_plugin():
    mux = Mux({"default": Raw})
    assert plugin.accepts(mux, "stream") and not plugin.accepts(mux, "datagram")
    assert not plugin.accepts(Raw, "stream") and plugin.adapt(mux, "stream") is mux
    assert isinstance(mux, Server) and repr(mux) == "Mux(default)"
    assert Mux({"http": HTTPServer(routes), "default": Raw}).alpn == ("h2", "http/1.1")


async def test_the_preface_of_http2_is_for_a_server_that_speaks_it():
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    both = Mux({"http": HTTPServer(routes), "default": Raw})
    assert both._choose(None, preface, False).args[0] == "http"
    assert both._choose(None, preface[:20], False) is None
    apart = Mux({"http": HTTPServer(routes), "http2": HTTPServer(routes), "default": Raw})
    assert apart._choose(None, preface, False).args[0] == "http2"
    without = Mux({"http": HTTPServer(routes, http2=False), "default": Raw})
    assert without._choose(None, preface, False).args[0] == "default"


class Alone:
    protocol = "x"

    async def start(self, context=None): ...
    async def listener(self, sock): ...
    async def drain(self, deadline): ...
    async def stop(self): ...
    def statistics(self): ...


@pytest.mark.parametrize(("servers", "options", "told"), [
    ({}, {}, "expected servers by name"), (Raw, {}, "expected servers by name"),
    ({"smtp": Raw}, {}, "'smtp': expected one of ssh, tls, http2, http, default, or a MuxEntry"),
    ({"ssh": 3}, {}, "'ssh': 3 is taken by no plugin"),
    ({"ssh": Alone()}, {}, "'ssh': .*Alone.* no plugin"),
    ({"ssh": Raw}, {"timeout": 0}, "option timeout=0: expected seconds, more than 0"),
])
def test_refuses(servers, options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        Mux(servers, **options)
