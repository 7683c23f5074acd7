"""One server of a worker on its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener, open_listeners
from apihour.errors import HookError
from apihour.plugins import ServerContext
from apihour.worker.ancestor import AncestorServer
from apihour.worker.connections import ConnectionTable
from apihour.worker.serving import Serving
from tests.apihour.loops import Run, run, wait_until

__all__ = ["run"]

log = logging.getLogger("test.serving")


class Said:
    """A server of streams and datagrams that writes down what it was told."""

    protocol = "said"

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.start_error: Exception | None = None

    async def start(self, context: ServerContext | None = None) -> None:
        self.told.append("start")
        if self.start_error is not None:
            raise self.start_error

    async def drain(self, deadline: float) -> None:
        self.told.append(("drain", deadline))

    async def stop(self) -> None:
        self.told.append("stop")

    def statistics(self) -> Mapping[str, Any]:
        return {}

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        self.told.append("stream")
        return StreamEcho()

    def datagram(self) -> asyncio.DatagramProtocol:
        return DatagramEcho()


class StreamEcho(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Accepting(Said):
    """A server that insists on accepting by itself."""

    stream = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.socks: list[socket.socket] = []

    async def listener(self, sock: socket.socket) -> None:
        self.socks.append(sock)


def opened(*texts: str, slots: int = 0) -> list[Listener]:
    wanted = [
        ("x", parse_address(text), slot)
        for text in texts for slot in (range(1, slots + 1) if slots else (0,))
    ]
    return open_listeners(wanted, 100, {})


class House:
    def __init__(self, server: Any, listeners: list[Listener]) -> None:
        self.server = server
        self.listeners = listeners
        self.serving = Serving("x", server, listeners)
        self.table = ConnectionTable("1.1")
        self.locks = tempfile.TemporaryDirectory()

    async def accept(self, worker_limit: int = 0, slot: int = 1) -> None:
        await self.serving.accept(
            self.table, asyncio.get_running_loop(), log, None, worker_limit, slot, {},
            Path(self.locks.name))

    async def client(self, listener: Listener | None = None) -> asyncio.StreamReader:
        """A client that has said hello; what comes back is the test's to read."""
        where = (listener or self.listeners[0]).getsockname()
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"hello")
        self.writers.append(writer)
        return reader

    writers: list[asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def house(
    *texts: str, server: Any = None, slots: int = 0, accept: bool = True, **options: Any
) -> AsyncIterator[House]:
    made = House(server or Said(), opened(*texts, slots=slots))
    made.writers = []
    if accept:
        await made.accept(**options)
    try:
        yield made
    finally:
        for acceptor in made.serving.acceptors:
            acceptor.stop()
        for writer in made.writers:
            writer.close()
        await made.serving.stop()
        await wait_until(lambda: not len(made.table))
        for listener in made.listeners:
            listener.close()
        made.locks.cleanup()


async def hears(reader: asyncio.StreamReader) -> bool:
    """Whether the hello comes back soon."""
    try:
        return await asyncio.wait_for(reader.readexactly(5), 0.15) == b"hello"
    except TimeoutError:
        return False


def test_streams_on_every_listener(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0", "127.0.0.1:0") as h:
            for listener in h.listeners:
                assert await hears(await h.client(listener))
            assert h.serving.accepted == 2
            assert h.serving.addresses == [listener.url for listener in h.listeners]
            assert h.serving.protocol == "said"

    run(body)


async def test_both_limits_reach_the_acceptor() -> None:
    async with house("127.0.0.1:0?limit=3", "127.0.0.1:0", worker_limit=4) as h:
        limits = [(acceptor.limit, acceptor.total) for acceptor in h.serving.acceptors]
        assert limits == [(3, 4), (0, 4)]


def test_the_workers_limit_counts_the_connections_of_all_listeners(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0", "127.0.0.1:0", worker_limit=2) as h:
            one, two = h.listeners
            for listener in (one, two):
                assert await hears(await h.client(listener))
            waiting = await h.client(two)
            assert not await hears(waiting)
            h.writers[0].close()  # of the other listener
            assert await asyncio.wait_for(waiting.readexactly(5), 5) == b"hello"
            assert len(h.table) == 2

    run(body)


def test_datagrams(run: Run) -> None:
    async def body() -> None:
        async with house("udp://127.0.0.1:0") as h:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(h.listeners[0].getsockname())
                await loop.sock_sendall(client, b"ping")
                assert await asyncio.wait_for(loop.sock_recv(client, 10), 5) == b"ping"
            await h.serving.stop()
            assert h.listeners[0].fileno() >= 0  # shared with the arbiter: only the copy closed
            assert h.server.told == ["stop"]

    run(body)


async def test_one_that_accepts_by_itself_gets_the_socket() -> None:
    async with house("127.0.0.1:0", server=Accepting()) as h:
        assert h.server.socks == [h.listeners[0].sock]
        assert h.serving.accepted == 0


async def test_a_start_that_fails_names_server_protocol_and_reason() -> None:
    server = Said()
    server.start_error = ValueError("no certificate")
    async with house("127.0.0.1:0", server=server, accept=False) as h:
        with pytest.raises(HookError, match=r"server 'x' \(said\) cannot start: no certificate"):
            await h.serving.start(ServerContext("x", None, asyncio.get_running_loop(), log))
        assert h.serving.started  # so that it is stopped as well


def test_suspended_it_leaves_new_connections_to_others(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0") as h:
            h.serving.suspend(True)
            waiting = await h.client()
            assert not await hears(waiting)
            h.serving.suspend(False)
            assert await asyncio.wait_for(waiting.readexactly(5), 5) == b"hello"

    run(body)


def test_of_slots_only_its_own_until_another_is_orphaned(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0?reuse_port", slots=2, slot=1) as h:
            own, foreign = h.serving.acceptors
            # Which socket gets a connection is the kernel's choice: ask until both had some.
            readers = [await h.client() for _ in range(40)]
            await wait_until(lambda: own.accepted)
            await asyncio.sleep(0.05)
            assert 0 < own.accepted < 40
            assert foreign.accepted == 0
            h.serving.mind_slots({1}, 2, 100.0)
            h.serving.mind_slots({1}, 2, 100.9)
            await asyncio.sleep(0.05)
            assert foreign.accepted == 0  # a worker for it is coming
            h.serving.mind_slots({1}, 2, 101.1)
            for reader in readers:
                assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
            assert own.accepted + foreign.accepted == 40
            h.serving.mind_slots({1, 2}, 2, 101.2)
            h.serving.mind_slots({1}, 2, 102.0)  # it is gone again: the second starts anew
            later = [await h.client() for _ in range(40)]
            await asyncio.sleep(0.05)
            assert own.accepted + foreign.accepted < 80
            h.serving.stop_accepting(last=True)
            for reader in later:
                assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"

    run(body)


def test_a_sticky_bind_is_shared_out_among_those_there_are(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0?sticky", slots=4, slot=2) as h:
            assert [one.is_started for one in h.serving.acceptors] == [False, True, False, False]
            h.serving.mind_slots({1, 2}, 2, 100.0)  # the third is the first worker's, not ours too
            assert [one.is_started for one in h.serving.acceptors] == [False, True, False, True]
        async with house("127.0.0.1:0?sticky", slots=2, slot=3) as h:
            assert not any(one.is_started for one in h.serving.acceptors)  # until the next reload

    run(body)


def test_every_bind_of_an_orphaned_slot_is_minded(run: Run) -> None:
    async def body() -> None:
        binds = ["127.0.0.1:0?reuse_port", "127.0.0.2:0?reuse_port"]
        async with house(*binds, slots=2, accept=False) as h:
            await h.accept(slot=1)
            h.serving.mind_slots({1}, 1, 100.0)  # one worker is wanted: nobody comes for slot 2
            for listener in h.listeners * 5:  # which slot's socket it is, the kernel chooses
                assert await hears(await h.client(listener))

    run(body)


def test_at_its_end_it_accepts_no_more_though_it_was_not_told_to_retire(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0") as h:
            assert await hears(await h.client())
            await h.serving.stop()
            assert not await hears(await h.client())
            assert h.serving.accepted == 1

    run(body)


def test_stopped_its_copies_of_the_listeners_are_closed(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0") as h:
            kept = h.listeners[0].sock.dup()
            with kept:
                reader = await h.client()
                assert await hears(reader)
                h.serving.stop_accepting()
                assert h.listeners[0].fileno() == -1
                # The arbiter's copy still takes connections in, for other workers.
                with socket.create_connection(kept.getsockname()):
                    pass
                assert h.serving.accepted == 1

    run(body)


@pytest.mark.parametrize("last", [True, False])
def test_the_last_one_takes_the_backlog_along(run: Run, last: bool) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0") as h:
            h.serving.acceptors[0].balance = object()  # type: ignore[assignment]
            h.serving.acceptors[0].stop()
            reader = await h.client()
            h.serving.stop_accepting(last=last)
            if last:
                assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
            else:
                with pytest.raises(ConnectionError):
                    await asyncio.wait_for(reader.readexactly(5), 5)

    run(body)


def test_a_drain_begins_when_every_connection_has_its_protocol(run: Run) -> None:
    async def body() -> None:
        async with house("127.0.0.1:0", accept=False) as h:
            await h.client()
            await h.accept()
            h.serving.acceptors[0].stop()
            h.serving.acceptors[0].sweep()
            await h.serving.drain(123.0)
            assert h.server.told == ["stream", ("drain", 123.0)]

    run(body)


@pytest.mark.parametrize(("parts", "shell"), [
    ({}, False), ({"is_shell": True}, True), ({"is_shell": True, "in_worker": True}, False)])
def test_a_shell_is_the_consoles_unless_it_is_to_be_in_the_worker(
    parts: dict[str, bool], shell: bool
) -> None:
    server: Any = SimpleNamespace(protocol="ssh", **parts)
    assert Serving("ssh", server, []).is_shell is shell


# -- the ancestor's form ---------------------------------------------------------------------


class AsyncioServer:
    def __init__(self, order: list[str]) -> None:
        self.order = order

    def close(self) -> None:
        self.order.append("close")


class Handler:
    def __init__(self, order: list[str], pause: float = 0.0) -> None:
        self.order = order
        self.pause = pause

    async def shutdown(self, timeout: float) -> None:
        self.timeout = timeout
        await asyncio.sleep(self.pause)
        self.order.append("goodbye")


class OldHandler(Handler):
    async def finish_connections(self, timeout: float) -> None:
        self.order.append(f"finish {timeout:.0f}")


async def test_the_ancestors_servers_close_before_anyone_says_goodbye() -> None:
    order: list[str] = []
    handlers = [Handler(order), OldHandler(order), object()]
    server = AncestorServer({AsyncioServer(order): handler for handler in handlers})
    await server.start()
    assert server.statistics() == {"servers": 3}
    await server.drain(asyncio.get_running_loop().time() + 10.0)
    assert order[:3] == ["close"] * 3
    assert sorted(order[3:]) == ["finish 8", "goodbye"]
    assert 7.5 < handlers[0].timeout <= 8.0  # type: ignore[attr-defined]


async def test_the_ancestors_handlers_share_the_time_left() -> None:
    order: list[str] = []
    server = AncestorServer({AsyncioServer(order): Handler(order, 1.0) for _ in range(5)})
    began = asyncio.get_running_loop().time()
    await server.drain(began + 10.0)
    assert asyncio.get_running_loop().time() - began < 4.0
    assert order.count("goodbye") == 5


async def test_the_ancestors_servers_are_closed_at_a_stop() -> None:
    order: list[str] = []
    await AncestorServer({AsyncioServer(order): Handler(order)}).stop()
    assert order == ["close"]


class TwistedPort:
    """As Twisted's listening ports are."""

    def __init__(self) -> None:
        self.stops = 0

    def stopListening(self) -> None:
        self.stops += 1


async def test_servers_of_the_ancestor_are_ended_by_what_they_have() -> None:
    class Library:
        async def stop(self) -> None:
            await asyncio.sleep(0)
            ended.append(self)

    port, library, ended = TwistedPort(), Library(), []
    server = AncestorServer({port: None, library: None})
    await server.drain(asyncio.get_running_loop().time())
    assert port.stops == 1 and ended == [library]


def test_a_server_of_the_ancestor_that_nothing_ends_is_refused() -> None:
    with pytest.raises(HookError, match=r"returned <object .*expected an object with close\(\)"):
        AncestorServer({object(): None})


async def test_a_listener_that_cannot_is_named() -> None:
    class Refusing:
        protocol = "x"

        async def listener(self, sock: Any) -> None:
            raise ValueError("no address beside a socket")

    serving = Serving("ftp", Refusing(), [])  # type: ignore[arg-type]
    listener: Any = SimpleNamespace(kind="stream", sock=None)
    with pytest.raises(HookError, match=r"server 'ftp' \(x\) cannot start: no address beside"):
        await serving._take(listener)
