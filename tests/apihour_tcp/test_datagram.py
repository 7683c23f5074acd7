"""UDPServer through real sockets."""

import asyncio
import contextlib

import pytest

from apihour_tcp import UDPServer

from .minicore import context, until


class Answer(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(b"got " + data, peer)


class Unlike(asyncio.BaseProtocol):
    """No asyncio.DatagramProtocol, but with its methods."""

    connection_made = Answer.connection_made
    datagram_received = Answer.datagram_received


class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.Queue()

    def datagram_received(self, data, peer):
        self.got.put_nowait(data)


@contextlib.asynccontextmanager
async def talking(server):
    """`server` on a port, and a client: yields (client's transport, its queue)."""
    loop = asyncio.get_running_loop()
    await server.start(context())
    transport, _ = await loop.create_datagram_endpoint(
        server.datagram, local_addr=("127.0.0.1", 0))
    peer, client = await loop.create_datagram_endpoint(
        Client, remote_addr=transport.get_extra_info("sockname"))
    try:
        yield peer, client.got
    finally:
        peer.close()
        await server.stop()
        transport.abort()


@pytest.mark.parametrize("factory", [Answer, lambda: Answer(), Unlike, lambda: Unlike()],
                         ids=["class", "lambda", "unlike", "unlike lambda"])
async def test_answers(factory):
    async with talking(UDPServer(factory)) as (peer, got):
        peer.sendto(b"one")
        assert await asyncio.wait_for(got.get(), 5) == b"got one"


async def test_drain_answers_what_it_has_then_closes():
    class Slow(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport, self.tasks = transport, set()

        def datagram_received(self, data, peer):
            task = asyncio.ensure_future(self.answer(data, peer))
            self.tasks.add(task)

        async def answer(self, data, peer):
            await asyncio.sleep(0.1)
            self.transport.sendto(b"slow " + data, peer)

        async def on_drain(self):
            await asyncio.wait(self.tasks)

    made = []
    server = UDPServer(lambda: made.append(Slow()) or made[-1])
    async with talking(server) as (peer, got):
        peer.sendto(b"one")
        await until(lambda: made[0].tasks)
        await server.drain(asyncio.get_running_loop().time() + 5)
        assert await asyncio.wait_for(got.get(), 5) == b"slow one"
        assert made[0].transport.is_closing()
        assert server.statistics() == {"sockets": 0, "errors": 0}


async def test_drain_without_a_hook_closes_at_once():
    made = []
    server = UDPServer(lambda: made.append(Answer()) or made[-1])
    async with talking(server) as (peer, got):
        peer.sendto(b"one")
        assert await asyncio.wait_for(got.get(), 5) == b"got one"
        await server.drain(asyncio.get_running_loop().time() + 5)
        assert made[0].transport.is_closing()


async def test_hook_that_fails_or_dawdles_is_reported(caplog):
    class Broken(Answer):
        def on_drain(self):
            raise RuntimeError("goodbye broke")

    class Dawdling(Answer):
        async def on_drain(self):
            await asyncio.sleep(60)

    for factory, text in ((Broken, "goodbye broke"), (Dawdling, "passed the deadline")):
        server = UDPServer(factory)
        async with talking(server):
            await server.drain(asyncio.get_running_loop().time() + 0.1)
            assert server.statistics()["sockets"] == 0
        assert text in caplog.text


async def test_factory_of_something_else():
    server = UDPServer(lambda: object())
    with pytest.raises(TypeError, match=r"^factory .*lambda.* expected a protocol with conn"):
        server.datagram()
