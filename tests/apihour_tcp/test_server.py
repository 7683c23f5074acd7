"""TCPServer through real sockets, on plain asyncio and on the core's table."""

import asyncio
import logging

import pytest

from apihour_tcp import TCPServer

from .minicore import WAYS, context, serve, until

pytestmark = pytest.mark.parametrize("way", WAYS)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray(100)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(bytes(self.buffer[:nbytes]))


async def echo_lines(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def exchange(port, data=b"hello\n"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.readline()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "factory", [Echo, BufferedEcho, lambda: Echo(), echo_lines],
    ids=["class", "buffered", "lambda", "callback"])
async def test_serves_every_shape(way, factory):
    server = TCPServer(factory)
    async with serve(server, way) as serving:
        assert await exchange(serving.port) == b"hello\n"
        assert await exchange(serving.port, b"again\n") == b"again\n"
        assert server.statistics()["accepted"] == 2
        assert server.statistics()["errors"] == 0


async def test_nothing_stands_between_transport_and_protocol(way):
    made = []

    def factory():
        made.append(Echo())
        return made[-1]

    async with serve(TCPServer(factory), way) as serving:
        await exchange(serving.port)
        assert made[-1].transport.get_protocol() is made[-1]


async def test_failing_factory_is_one_line_and_one_connection(way, caplog):
    fail = False

    def factory():
        if fail:
            raise ValueError("no such table")
        return Echo()

    server = TCPServer(factory)
    async with serve(server, way) as serving:
        fail = True
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        with pytest.raises(ConnectionError):
            if await reader.read() == b"":
                raise ConnectionResetError
        writer.close()
        (record,) = [r for r in caplog.records if r.name == "test.srv"]
        assert "'srv'" in record.message and "factory" in record.message
        assert "no such table" in record.message and "test_server.py:" in record.message
        assert record.exc_info is None or record.exc_info is False
        fail = False
        assert await exchange(serving.port) == b"hello\n"
        assert server.statistics()["errors"] == 1


async def test_factory_that_returns_no_protocol_later(way, caplog):
    made = [Echo()]
    server = TCPServer(lambda: made.pop() if made else object())
    async with serve(server, way) as serving:
        with pytest.raises(ConnectionError):
            if await exchange(serving.port) == b"":
                raise ConnectionResetError
    assert "expected a protocol with connection_made() and data_received()" in caplog.text


class Unlike(asyncio.BaseProtocol):
    """A protocol as pymodbus has them: neither asyncio.Protocol nor DatagramProtocol."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)

    def eof_received(self):
        return False


class Duck:
    """No class of asyncio's at all: it is called by name."""

    connection_made = Unlike.connection_made
    data_received = Unlike.data_received

    def eof_received(self):
        return False

    def connection_lost(self, error):
        pass


@pytest.mark.parametrize("factory", [Unlike, lambda: Unlike(), Duck, lambda: Duck()])
async def test_what_asyncio_takes_for_a_protocol_is_one(way, factory, caplog):
    async with serve(TCPServer(factory), way) as serving:
        assert await exchange(serving.port) == b"hello\n"
    assert not caplog.records


async def test_failing_callback_is_logged_with_its_peer(way, caplog):
    async def callback(reader, writer):
        if await reader.readline() == b"bad\n":
            raise RuntimeError("callback broke")
        writer.write(b"fine\n")
        await writer.drain()
        writer.close()

    async with serve(TCPServer(callback), way) as serving:
        good_reader, good_writer = await asyncio.open_connection("127.0.0.1", serving.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        host, port = writer.get_extra_info("sockname")
        writer.write(b"bad\n")
        with pytest.raises(ConnectionError):
            if await reader.read() == b"":
                raise ConnectionResetError
        good_writer.write(b"good\n")
        assert await good_reader.readline() == b"fine\n"
        good_writer.close()
        writer.close()
    assert f"{host}:{port}" in caplog.text and "callback broke" in caplog.text


async def test_drain_calls_on_drain_and_waits_for_the_last(way):
    class Polite(Echo):
        def on_drain(self):
            self.transport.write(b"bye\n")
            self.transport.close()

    async with serve(TCPServer(Polite), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        await reader.readline()
        took = await serving.drain()
        assert await reader.read() == b"bye\n"
        assert took < 3
        assert serving.server.statistics()["connections"] == 0
        writer.close()


async def test_async_on_drain_is_awaited_and_its_failure_logged(way, caplog):
    done = []

    class Slow(Echo):
        async def on_drain(self):
            await asyncio.sleep(0.02)
            self.transport.close()
            await asyncio.sleep(0.05)
            done.append(True)
            raise RuntimeError("goodbye broke")

    async with serve(TCPServer(Slow), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        await reader.readline()
        await serving.drain()
        assert done == [True]
        assert "goodbye broke" in caplog.text
        assert f"127.0.0.1:{writer.get_extra_info('sockname')[1]}" in caplog.text
        writer.close()


async def test_drain_leaves_the_others_until_the_deadline(way):
    async with serve(TCPServer(Echo), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        await reader.readline()
        drain = asyncio.ensure_future(serving.drain(0.4))
        await asyncio.sleep(0.1)
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        assert 0.39 <= await drain < 2  # timers of uvloop count whole milliseconds
        await serving.server.stop()
        with pytest.raises(ConnectionError):
            if await reader.read() == b"":
                raise ConnectionResetError
        writer.close()


async def test_drain_ends_when_the_peer_leaves(way):
    async with serve(TCPServer(Echo), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        await reader.readline()
        drain = asyncio.ensure_future(serving.drain(30))
        await asyncio.sleep(0.1)
        assert not drain.done()
        writer.close()
        assert await drain < 5


async def test_half_close_says_end_of_file(way):
    async with serve(TCPServer(Echo, half_close=True), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        assert await reader.readline() == b"x\n"
        drain = asyncio.ensure_future(serving.drain(30))
        assert await reader.read() == b""
        writer.close()
        assert await drain < 5


async def test_drain_waits_for_running_callbacks(way):
    finished = []

    async def callback(reader, writer):
        await reader.readline()
        writer.close()
        await asyncio.sleep(0.3)
        finished.append(True)

    async with serve(TCPServer(callback), way) as serving:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"x\n")
        assert await reader.read() == b""
        await serving.drain()
        assert finished == [True]
        writer.close()


async def test_stop_cancels_what_is_left(way):
    cancelled = []

    async def callback(reader, writer):
        try:
            await reader.read()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with serve(TCPServer(callback), way) as serving:
        _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        await until(lambda: serving.server._tasks)
        await asyncio.sleep(0)
        await serving.server.stop()
        assert cancelled == [True]
        writer.close()


async def test_finished_connections_are_forgotten(way):
    server = TCPServer(Echo)
    async with serve(server, way) as serving:
        for _ in range(600):
            await exchange(serving.port)
        assert server.statistics()["accepted"] == 600
        await until(lambda: server.statistics()["connections"] == 0)


async def test_debug_adds_the_traceback(way, caplog):
    caplog.set_level(logging.ERROR)

    def factory() -> Echo:  # said so, it is not tried at the start
        raise ValueError("shown in full")

    ctx = context(debug=True)
    async with serve(TCPServer(factory), way, ctx) as serving:
        with pytest.raises(ConnectionError):
            if await exchange(serving.port) == b"":
                raise ConnectionResetError
    assert "Traceback" in caplog.text
