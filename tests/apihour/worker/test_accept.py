"""The accept loop with real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from apihour.bind.ban_book import BanBook, parse_network
from apihour.bind.bans import Bans
from apihour.ipc.scoreboard import BoardRow, Scoreboard
from apihour.ops.connection_row import connection_row
from apihour.worker import accept
from apihour.worker.accept import Acceptor, Balance
from apihour.worker.connections import AcceptedConnection, ConnectionTable
from apihour.worker.stages import StagedAcceptor
from tests.apihour.loops import Run, run, wait_until

__all__ = ["run"]

log = logging.getLogger("test.accept")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoServer:
    """The part of a server that an acceptor needs."""

    protocol = "tcp"

    def __init__(self) -> None:
        self.fail = False
        self.conns: list[AcceptedConnection] = []
        self.made: list[weakref.ref[Any]] = []

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        if self.fail:
            raise RuntimeError("no protocol today")
        self.conns.append(conn)
        protocol = Echo()
        self.made.append(weakref.ref(protocol))
        return protocol


class House:
    """One acceptor on a port of its own, and clients of it."""

    def __init__(self, sock: socket.socket | None = None, **options: Any) -> None:
        self.server = EchoServer()
        self.table = ConnectionTable("1.1")
        self.sock = sock or socket.create_server(("127.0.0.1", 0), backlog=100)
        self.sock.setblocking(False)
        kind = StagedAcceptor if options.keys() & {"tls", "networks"} else Acceptor
        self.acceptor = kind(
            "echo", self.sock, self.server,  # type: ignore[arg-type]
            self.table, asyncio.get_running_loop(), log, **options,
        )
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        self.writers.append(writer)
        return reader, writer

    async def says(self, text: bytes) -> asyncio.StreamWriter:
        """A new client whose words come back."""
        reader, writer = await self.client()
        writer.write(text)
        assert await asyncio.wait_for(reader.readexactly(len(text)), 10) == text
        return writer

    async def says_behind(self, header: bytes, text: bytes) -> asyncio.StreamWriter:
        """A new client whose words come back, but for the header before them."""
        reader, writer = await self.client()
        writer.write(header + text)
        assert await asyncio.wait_for(reader.readexactly(len(text)), 30) == text
        return writer

    async def close(self) -> None:
        self.acceptor.stop()
        for writer in self.writers:
            writer.close()
        for conn in self.table:
            conn.close()
        await wait_until(lambda: not len(self.table))
        self.sock.close()


@contextlib.asynccontextmanager
async def house(start: bool = True, **options: Any) -> AsyncIterator[House]:
    made = House(**options)
    if start:
        made.acceptor.start()
    try:
        yield made
    finally:
        await made.close()


def test_a_connection_is_served_and_has_a_row(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            writer = await h.says(b"hello")
            (conn,) = h.table
            host, port = writer.get_extra_info("sockname")
            assert conn.peer == f"{host}:{port}"
            assert conn.local == h.sock.getsockname()
            assert conn.transport is not None
            record = connection_row(conn, "1.1")
            assert (record.server, record.protocol, record.bytes_in) == ("echo", "tcp", 5)
            assert (h.acceptor.open, h.acceptor.accepted) == (1, 1)
            writer.close()
            await wait_until(lambda: not len(h.table))
            assert (h.acceptor.open, h.acceptor.accepted) == (0, 1)

    run(body)


def test_another_thread_may_be_the_first_that_asks_for_the_transport(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            await h.says(b"x")
            (conn,) = h.table
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(lambda _: conn.transport, range(40)))
            assert found[0] is not None and {*map(id, found)} == {id(found[0])}
            assert conn.transport is h.server.made[0]().transport

    run(body)


def test_one_kicked_before_its_protocol_is_connected_is_closed(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with house(start=False) as h:
            reader, _ = await h.client()
            h.acceptor.sweep()
            (conn,) = h.table
            assert conn.transport is None and h.acceptor.attaching()
            conn.close()
            assert conn.transport is None
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await wait_until(lambda: not len(h.table))
            assert conn.sock.fileno() == -1

    run(body)
    assert not caplog.text


@pytest.mark.parametrize("looked_at", [False, True])
def test_nothing_is_left_of_a_connection_that_is_gone(run: Run, looked_at: bool) -> None:
    async def body() -> None:
        async with house() as h:
            gc.collect()
            gc.disable()
            try:
                writer = await h.says(b"x")
                if looked_at:
                    assert [row.transport for row in h.table] != [None]
                h.server.conns.clear()
                writer.close()
                await wait_until(lambda: not len(h.table))
                await wait_until(lambda: h.server.made[0]() is None)
            finally:
                gc.enable()

    run(body)


@pytest.mark.parametrize("how", ["close", "abort", "kick", "replace"])
def test_a_row_goes_however_the_connection_ends(run: Run, how: str) -> None:
    async def body() -> None:
        async with house() as h:
            writer = await h.says(b"x")
            (conn,) = h.table
            assert conn.transport is not None
            if how == "kick":
                conn.close("kicked")
            elif how == "replace":
                conn.transport.set_protocol(asyncio.Protocol())
                writer.close()
            else:
                getattr(conn.transport, how)()
            await wait_until(lambda: not len(h.table))
            assert h.acceptor.open == 0

    run(body)


def test_more_than_a_batch_at_once(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            await asyncio.gather(*(h.says(b"%03d" % n) for n in range(50)))
            assert (len(h.table), h.acceptor.accepted) == (50, 50)

    run(body)


def test_single_connections_are_seldom_followed_by_an_accept_in_vain(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def counted(sock: socket.socket, real: Any = accept.accept_descriptor) -> Any:
        tries.append(1)
        return real(sock)

    monkeypatch.setattr(accept, "accept_descriptor", counted)

    async def body() -> None:
        async with house() as h:
            for n in range(40):
                await h.says(b"%02d" % n)
            assert 40 <= len(tries) <= 50

    run(body)


def test_at_its_limit_new_ones_wait_and_are_served_later(run: Run) -> None:
    async def body() -> None:
        async with house(limit=2) as h:
            first = await h.says(b"a")
            await h.says(b"b")
            reader, writer = await h.client()
            writer.write(b"c")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
            assert len(h.table) == 2
            first.close()
            assert await asyncio.wait_for(reader.read(1), 10) == b"c"
            assert len(h.table) == 2

    run(body)


def test_stopped_it_takes_nobody_and_keeps_who_is_there(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            reader, writer = await h.client()
            await wait_until(lambda: len(h.table) == 1)
            h.acceptor.stop()
            waiting, waiter = await h.client()
            waiter.write(b"later")
            writer.write(b"now")
            assert await reader.readexactly(3) == b"now"
            assert h.acceptor.accepted == 1
            h.acceptor.start()
            assert await waiting.readexactly(5) == b"later"

    run(body)


def test_sweep_takes_what_waits_although_stopped(run: Run) -> None:
    async def body() -> None:
        async with house(start=False) as h:
            reader, writer = await h.client()
            writer.write(b"x")
            h.acceptor.sweep()
            await h.acceptor.wait_attached()
            (conn,) = h.table
            assert conn.transport is not None
            assert await reader.read(1) == b"x"

    run(body)


def test_a_factory_that_raises_costs_its_connection_only(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with house() as h:
            h.server.fail = True
            reader, _ = await h.client()
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await wait_until(lambda: not len(h.table))
            assert h.acceptor.open == 0
            h.server.fail = False
            await h.says(b"fine")

    run(body)
    assert "no protocol for the connection of 127.0.0.1:" in caplog.text
    assert "no protocol today" in caplog.text


class Failing:
    """An accept that fails so many times, then works."""

    def __init__(self, number: int, times: int) -> None:
        self.number = number
        self.left = times
        self.real = accept.accept_descriptor

    def __call__(self, sock: socket.socket) -> tuple[int, object]:
        if self.left:
            self.left -= 1
            raise OSError(self.number, "as if")
        return self.real(sock)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_out_of_descriptors_is_survived_and_told_once(
    run: Run, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "accept_descriptor", Failing(number, 3))
    monkeypatch.setattr(accept, "_EXHAUSTED_REST", 0.02)

    async def body() -> None:
        async with house() as h:
            await h.says(b"at last")
            assert h.acceptor.refused == 3

    run(body)
    assert caplog.text.count("server 'echo' cannot accept: as if") == 1


def test_a_client_that_left_again_is_skipped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "accept_descriptor", Failing(errno.ECONNABORTED, 2))

    async def body() -> None:
        async with house() as h:
            await h.says(b"x")
            assert h.acceptor.refused == 0

    run(body)


def test_a_lost_listener_ends_accepting_loudly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "accept_descriptor", Failing(errno.EBADF, 100))
    heard: list[Any] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        async with house() as h:
            await h.client()
            await wait_until(lambda: heard)
            await asyncio.sleep(0.05)
            assert len(heard) == 1

    run(body)
    assert heard[0]["exception"].errno == errno.EBADF


# -- balance ---------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> list[BoardRow]:
    board = Scoreboard.create(str(tmp_path / "board"))
    rows = [board.claim(slot, 1) for slot in (1, 2, 3)]
    for row in rows:
        row.accepting = 1.0
    return rows


def test_alone_there_is_no_share(rows: list[BoardRow]) -> None:
    rows[0].connections = 1000
    assert not Balance(rows[0], lambda: ()).is_over()


@pytest.mark.parametrize(("own", "others", "over"), [
    (0, [0, 0], False),
    (8, [0, 5], False),  # eight more than the least are still its share
    (9, [0, 5], True),
    (9, [1, 1], False),
    (40, [30, 40], False),  # and one more for every sixteen
    (41, [30, 40], True),
])
def test_share_is_what_the_least_loaded_has_and_a_little(
    rows: list[BoardRow], own: int, others: list[int], over: bool
) -> None:
    rows[0].connections = own
    rows[1].connections, rows[2].connections = others
    assert Balance(rows[0], lambda: rows[1:]).is_over() is over


def test_who_does_not_accept_does_not_count(rows: list[BoardRow]) -> None:
    rows[0].connections = 9
    balance = Balance(rows[0], lambda: rows[1:])
    assert balance.is_over()
    rows[1].accepting = rows[2].accepting = 0.0
    assert not balance.is_over()


def test_a_lagging_worker_leaves_it_to_others(rows: list[BoardRow]) -> None:
    rows[0].lag = 0.5
    balance = Balance(rows[0], lambda: rows[1:2])
    assert balance.is_over()
    rows[1].lag = 0.4
    assert not balance.is_over()


def test_the_neighbours_are_looked_up_again_after_a_moment(rows: list[BoardRow]) -> None:
    found: list[BoardRow] = []
    balance = Balance(rows[0], lambda: found)
    rows[0].connections = 9
    assert not balance.is_over()
    found.append(rows[1])
    balance.refresh()
    assert balance.is_over()


def test_one_over_its_share_leaves_it_to_a_neighbour(run: Run, rows: list[BoardRow]) -> None:
    async def body() -> None:
        rows[0].connections = 50
        async with house(balance=Balance(rows[0], lambda: rows[1:])) as busy:
            other = House(sock=busy.sock.dup(), balance=Balance(rows[1], lambda: rows[:1]))
            other.acceptor.start()
            for n in range(20):
                await busy.says(b"%02d" % n)
            assert other.acceptor.accepted >= 19  # the machine may be late for one
            await other.close()

    run(body)


def test_one_over_its_share_takes_it_when_nobody_else_does(run: Run, rows: list[BoardRow]) -> None:
    async def body() -> None:
        rows[0].connections = 50
        async with house(balance=Balance(rows[0], lambda: rows[1:])) as h:
            began = asyncio.get_running_loop().time()
            await h.says(b"x")
            assert asyncio.get_running_loop().time() - began >= 0.006  # after its rests
            assert h.acceptor.accepted == 1

    run(body)


def test_the_banned_are_closed_at_the_door_and_the_others_served(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with house() as h:
            bans = Bans(tmp_path / "bans.json", log)
            h.table.bans = bans
            await h.says(b"before")
            BanBook(tmp_path / "bans.json", (os.geteuid(), os.getegid())).add(
                parse_network("127.0.0.77"), 60, "me")
            bans.look()
            host, port = h.sock.getsockname()
            for _ in range(3):
                reader, writer = await asyncio.open_connection(
                    host, port, local_addr=("127.0.0.77", 0))
                assert await asyncio.wait_for(reader.read(), 10) == b""
                writer.close()
            await h.says(b"after")
            assert (h.acceptor.banned, h.acceptor.refused, h.acceptor.accepted) == (3, 0, 2)
            assert len(h.table) == 2 and bans.refused["127.0.0.77/32"] == 3

    run(body)
