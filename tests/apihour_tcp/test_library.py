"""Servers of libraries that open their own port: taken, ended, and left alone where not meant."""

import asyncio

import pytest

from apihour_tcp import LibraryServer
from apihour_tcp.adapter import plugin

PATIENCE = 30.0


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Library:
    """A library's server, which notes what happens to it."""

    def __init__(self):
        self.events = []
        self.server = None

    async def start(self, host="127.0.0.1", port=1):
        self.server = await asyncio.get_running_loop().create_server(Echo, host, port)
        self.events.append(f"started {self.server.is_serving()} {list(self.server.sockets)}")
        return self

    async def stop(self):
        self.server.close()
        await self.server.wait_closed()
        self.events.append("stopped")


async def echo(server):
    """What comes back of a connection of `server`."""
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    async with listener:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(b"hello")
        got = await asyncio.wait_for(reader.readexactly(5), PATIENCE)
        writer.close()
        return got


async def test_its_protocols_serve_the_hosts_connections():
    library = Library()
    server = LibraryServer(library.start)
    assert plugin.accepts(server, "stream") and plugin.adapt(server, "stream") is server
    await server.start()
    assert await echo(server) == b"hello"
    assert server.statistics()["accepted"] == 1
    await server.drain(asyncio.get_running_loop().time() + PATIENCE)
    await server.stop()
    assert library.events == ["started True []", "stopped"]


async def test_stream_callbacks_and_what_serves_for_ever():
    async def callback(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    async def start():
        server = await asyncio.start_server(callback, "127.0.0.1", 1)
        await server.serve_forever()

    server = LibraryServer(start)
    await asyncio.wait_for(server.start(), PATIENCE)
    assert await echo(server) == b"hello"
    await server.stop()


async def test_one_that_opens_its_port_in_a_task_of_its_own():
    started = []

    def start():
        started.append(asyncio.get_running_loop().create_task(Library().start()))
        return started[0]

    server = LibraryServer(start)
    await server.start()
    assert await echo(server) == b"hello"
    await server.stop()


async def test_goodbye_and_end_in_the_users_words():
    told = []
    library = Library()

    async def goodbye(made):
        told.append(("drain", made))

    server = LibraryServer(
        library.start, drain=goodbye, stop=lambda made: told.append(("stop", made)))
    await server.start()
    await server.drain(asyncio.get_running_loop().time() + PATIENCE)
    await server.stop()
    assert told == [("drain", library), ("stop", library)]


async def test_others_open_ports_meanwhile_and_it_does_afterwards():
    loop = asyncio.get_running_loop()
    other = []

    async def start():
        other.append(await outside.get())
        return await loop.create_server(Echo, "127.0.0.1", 1)

    async def someone_else():
        await outside.put(await loop.create_server(Echo, "127.0.0.1", 0))

    outside = asyncio.Queue()
    server = LibraryServer(start)
    task = loop.create_task(someone_else())  # before: it is not of the library
    await server.start()
    await task
    later = await loop.create_server(Echo, "127.0.0.1", 0)
    for real in (other[0], later):
        assert real.sockets[0].getsockname()[1]
        real.close()
    await server.stop()


async def nothing():
    pass


async def broken():
    raise ValueError("no licence")


async def twice():
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, "127.0.0.1", 1)
    await loop.create_server(Echo, "127.0.0.1", 2)


async def encrypted():
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 1, ssl=context)


@pytest.mark.parametrize(("start", "told"), [
    (nothing, "test_library.nothing opened no server; expected a call of loop.create_server"),
    (broken, "no licence"), (twice, "a second server was opened"),
    (encrypted, r"expected it at the bind: ADDRESS\?tls"),
])
async def test_starts_that_fail(start, told):
    server = LibraryServer(start)
    with pytest.raises((RuntimeError, ValueError), match=told):
        await server.start()
    await server.stop()


def test_refuses_what_cannot_be_called():
    with pytest.raises(TypeError, match=r"LibraryServer\(3\): expected a callable"):
        LibraryServer(3)
