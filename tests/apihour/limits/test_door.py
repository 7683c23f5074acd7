"""What a bind asks of its connections, with real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour.limits import gate as gates
from apihour.limits import watch
from apihour.limits.bind_options import BindOptions, parse_options
from apihour.limits.door import Door
from apihour.limits.gate import AddressGate, address_key
from tests.apihour.loops import Run, run, wait_until
from tests.apihour.worker.test_accept import House, house

__all__ = ["run"]

log = logging.getLogger("test.door")
ONE, OTHER = "127.0.0.91", "127.0.0.92"


def door_of(h: House, proxied: bool = False, **options: object) -> Door:
    acceptor = h.acceptor
    door = Door("echo", h.sock, acceptor.entrance, h.table, acceptor.loop, log, proxied)
    door.change(parse_options(options))
    acceptor.obey(door.waits_at, door)
    return door


@contextlib.asynccontextmanager
async def asking(proxied: bool = False, **options: object) -> AsyncIterator[tuple[House, Door]]:
    given: dict[str, Any] = {"networks": "127.0.0.0/8"} if proxied else {}
    async with house(**given) as h:
        door = door_of(h, proxied, **options)
        yield h, door
        door.close()


class Peer:
    """A client at an address of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def is_served(self, seconds: float = 10.0, text: bytes = b"x") -> bool:
        self.writer.write(text)
        try:
            async with asyncio.timeout(seconds):
                return await self.reader.readexactly(1) == b"x"
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False

    async def is_closed(self) -> bool:
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        return True


async def come(h: House, source: str = ONE) -> Peer:
    reader, writer = await asyncio.open_connection(
        *h.sock.getsockname(), local_addr=(source, 0))
    h.writers.append(writer)
    return Peer(reader, writer)


def test_an_address_has_so_many_and_others_are_served(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with asking(per_address=2) as (h, door):
            first, second = await come(h), await come(h)
            assert await first.is_served() and await second.is_served()
            third, fourth = await come(h), await come(h)
            assert await third.is_closed() and await fourth.is_closed()
            assert await (await come(h, OTHER)).is_served()
            first.writer.close()
            await wait_until(lambda: len(h.table) == 2)
            assert await (await come(h)).is_served() and await second.is_served()
            assert door.refused == 2

    run(body)
    (line,) = [one for one in caplog.messages if "closed" in one]  # one in ten seconds
    assert line.startswith(f"server 'echo': connection of {ONE}:")
    assert line.endswith("closed: over per_address=2 (1 so far)")


def test_one_over_waits_for_its_turn(run: Run) -> None:
    async def body() -> None:
        async with asking(per_address=1, over="wait") as (h, door):
            first = await come(h)
            assert await first.is_served()
            second = await come(h)
            await wait_until(lambda: len(h.table) == 2)
            assert [conn.state for conn in h.table] == ["open", "waiting"]
            assert await (await come(h, OTHER)).is_served()
            third = await come(h)  # as many wait as may be open
            assert await third.is_closed() and door.refused == 1
            first.writer.close()
            assert await second.is_served()
            second.writer.close()
            await wait_until(lambda: len(h.table) == 1)

    run(body)


def test_one_that_waits_too_long_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with asking(per_address=1, over="wait") as (h, door):
            monkeypatch.setattr(gates, "_PATIENCE", 0.1)
            assert await (await come(h)).is_served()
            assert await (await come(h)).is_closed()
            assert door.refused == 1 and len(h.table) == 1

    run(body)


def test_one_that_waits_may_be_kicked(run: Run) -> None:
    async def body() -> None:
        async with asking(per_address=1, over="wait") as (h, _):
            first = await come(h)
            assert await first.is_served()
            second = await come(h)
            await wait_until(lambda: any(conn.state == "waiting" for conn in h.table))
            next(conn for conn in h.table if conn.state == "waiting").close("kicked")
            assert await second.is_closed()
            third = await come(h)
            await wait_until(lambda: any(conn.state == "waiting" for conn in h.table))
            first.writer.close()
            assert await third.is_served()

    run(body)


def test_an_address_may_come_so_fast(run: Run) -> None:
    async def body() -> None:
        async with asking(rate="3/h") as (h, door):
            peers = [await come(h) for _ in range(5)]
            assert [await one.is_served() for one in peers] == [True] * 3 + [False] * 2
            assert await (await come(h, OTHER)).is_served()
            door.change(parse_options({"rate": "10/s", "over": "wait"}))
            h.acceptor.obey(door.waits_at, door)

    run(body)


def test_too_fast_a_connection_waits(run: Run) -> None:
    async def body() -> None:
        async with asking(rate="2/s", over="wait") as (h, _):
            began = time.monotonic()
            peers = [await come(h) for _ in range(4)]
            assert [await one.is_served() for one in peers] == [True] * 4
            assert time.monotonic() - began >= 0.9  # two at once, one each half second

    run(body)


def test_at_the_limit_new_ones_are_closed_where_that_is_asked(run: Run) -> None:
    async def body() -> None:
        async with asking(limit=1, over="close") as (h, door):
            first = await come(h)
            assert await first.is_served()
            assert await (await come(h, OTHER)).is_closed()
            first.writer.close()
            await wait_until(lambda: not len(h.table))
            assert await (await come(h)).is_served() and door.refused == 1

    run(body)


def test_behind_a_proxy_the_clients_address_counts(run: Run) -> None:
    async def body() -> None:
        async with asking(proxied=True, per_address=1) as (h, door):
            def said(host: str, text: str = "PROXY TCP4 {} 10.0.0.2 1000 80\r\nx") -> bytes:
                return text.format(host).encode()

            peers = [await come(h) for _ in range(5)]
            assert await peers[0].is_served(text=said("10.0.0.1"))
            assert not await peers[1].is_served(text=said("10.0.0.1"))
            assert await peers[2].is_served(text=said("10.0.0.3"))
            for peer in peers[3:]:  # the proxy's own: its health checks
                assert await peer.is_served(text=said("", "PROXY UNKNOWN\r\nx"))
            assert door.refused == 1

    run(body)


@pytest.mark.parametrize(("peer", "key"), [
    (("10.0.0.1", 5), "10.0.0.1"),
    (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
    (("2001:db8::1", 5, 0, 0), 0x20010DB8_00000000),
    (("fe80::1%lo", 5, 0, 1), 0xFE80000000000000),
    ("", None), (b"\0x", None), (None, None),
])
def test_a_client_is_known_by_its_address_or_its_64(peer: Any, key: Any) -> None:
    assert address_key(peer) == key
    if key is not None:
        assert address_key((peer[0], 99, *peer[2:])) == key


def test_the_same_64_is_one_client_and_a_flood_of_them_has_an_end() -> None:
    gate = AddressGate("x", BindOptions(per_address=1, rate=(1, 3600.0)), log)
    assert gate.admit(1, ("2001:db8::1", 1, 0, 0))
    assert not gate.admit(2, ("2001:db8::2", 1, 0, 0))
    assert gate.admit(3, ("2001:db8:0:1::1", 1, 0, 0))
    for number in range(gates._REMEMBERED + 10):
        assert gate.admit(10 + number, (f"2001:db9:{number >> 16:x}:{number & 0xFFFF:x}::1", 1, 0))
        gate.leave(10 + number)
    assert len(gate._due) <= gates._REMEMBERED
    assert not gate.admit(4, ("2001:db8::2", 1, 0, 0))  # it is open still
    assert sorted(gate._keys) == [1, 3]


def test_connections_that_were_there_before_count(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            old = await come(h)
            assert await old.is_served() and h.acceptor.door is None
            door = door_of(h, per_address=1)
            assert await (await come(h)).is_closed()
            old.writer.close()
            await wait_until(lambda: not len(h.table))
            assert await (await come(h)).is_served()
            door.change(BindOptions())
            h.acceptor.obey(0, door)
            assert await (await come(h)).is_served()

    run(body)


def test_a_limit_that_comes_again_counts_each_once(run: Run) -> None:
    async def body() -> None:
        async with asking(per_address=2) as (h, door):
            first = await come(h)
            assert await first.is_served()
            for options in ({}, {"per_address": 2}, {"idle": 9}, {"per_address": 2}):
                door.change(parse_options(options))
            second = await come(h)
            assert await second.is_served() and await (await come(h)).is_closed()
            for one in (first, second):
                one.writer.close()
            await wait_until(lambda: not len(h.table))
            assert not door._gate._open and not door._gate._keys

    run(body)


def test_one_whose_header_is_under_way_counts_when_it_is_there(run: Run) -> None:
    async def body() -> None:
        async with asking(proxied=True) as (h, door):
            peers = [await come(h) for _ in range(2)]
            await wait_until(lambda: len(h.table) == 2)
            door.change(parse_options({"per_address": 1}))
            h.acceptor.obey(door.waits_at, door)
            said = b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\nx"
            assert await peers[0].is_served(text=said)
            assert not await peers[1].is_served(text=said)
            peers[0].writer.close()
            await wait_until(lambda: not len(h.table))
            assert not door._gate._open and not door._gate._keys

    run(body)


def test_who_is_silent_is_closed_and_who_talks_is_not(run: Run) -> None:
    async def body() -> None:
        async with asking(idle="400ms") as (h, door):
            silent, talker = await come(h), await come(h)
            assert await silent.is_served()
            closed = asyncio.ensure_future(silent.is_closed())
            while not closed.done():
                assert await talker.is_served()
                await asyncio.sleep(0.02)
            assert closed.result() and await talker.is_served()
            assert door._watch.closed == 1

    run(body)


def test_who_sends_slowly_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_GRACE", 0.3)
    monkeypatch.setattr(watch, "_LATEST", 0.05)

    async def body() -> None:
        async with asking(min_rate=1000) as (h, _):
            patient = await come(h)
            assert await patient.is_served()
            slow, quick = await come(h), await come(h)
            await wait_until(lambda: len(h.table) == 3)
            for conn in h.table:  # from here on it takes what comes and answers nothing
                if conn.peer != "{}:{}".format(*patient.writer.get_extra_info("sockname")):
                    assert conn.transport is not None
                    conn.transport.set_protocol(asyncio.Protocol())
            ended = asyncio.ensure_future(slow.is_closed())
            while not ended.done():
                slow.writer.write(b"x")
                quick.writer.write(b"x" * 1000)
                await asyncio.sleep(0.02)
            assert ended.result() and await patient.is_served()
            assert {conn.peer for conn in h.table} == {
                "{}:{}".format(*one.writer.get_extra_info("sockname")) for one in (patient, quick)}

    run(body)


@pytest.mark.parametrize(("looks", "slow"), [
    ([(0, 1, 0), (5, 2, 0), (11, 3, 0)], True),  # a byte each few seconds
    ([(0, 1, 0), (60, 2, 0)], True),
    ([(0, 1000, 0), (5, 2000, 0), (11, 9000, 0)], False),
    ([(0, 100, 0), (60, 100, 0), (90, 100, 0)], False),  # it has asked, and waits
    ([(0, 1, 0), (5, 2, 5), (11, 3, 9)], False),  # it is answered
    ([(0, 9000, 0), (11, 9999, 0), (12, 10000, 0), (30, 10001, 0)], True),  # a quick beginning
])
def test_who_is_slow(looks: list[tuple[float, int, int]], slow: bool) -> None:
    burst = watch._Burst(0, 0)
    assert any([burst.is_slow(100.0 + when, received, sent, 500)
                for when, received, sent in looks]) is slow


def test_what_tcp_shall_do_is_done(run: Run) -> None:
    async def body() -> None:
        async with asking(keepalive=90, nodelay=False) as (h, door):
            def value(level: int, option: int) -> int:
                (conn,) = h.table
                return int.from_bytes(conn.sock.getsockopt(level, option, 4), "little")

            peer = await come(h)
            assert await peer.is_served()
            assert value(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert value(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 90
            assert value(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 30
            assert value(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
            peer.writer.close()
            await wait_until(lambda: not len(h.table))
            door.change(BindOptions())
            assert await (await come(h)).is_served()
            assert value(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            assert value(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(body)


def test_a_unix_socket_is_told_what_it_cannot(
    run: Run, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "x.sock"))
        sock.listen(5)
        async with house(sock=sock) as h:
            door = door_of(h, idle=5, per_address=2, limit=3)
            door.change(parse_options({"idle": 5, "per_address": 2, "limit": 3}))
            assert door.options == BindOptions(limit=3)

    run(body)
    assert [one.partition(": ")[2].partition(": ")[2] for one in caplog.messages] == [
        "option 'idle' on TCP binds only",
        "option 'per_address' on TCP binds, or beside proxy=NETWORKS, only"]


def test_a_held_listener_leaves_what_comes_in_the_backlog(run: Run) -> None:
    async def body() -> None:
        async with house() as h:
            old = await come(h)
            assert await old.is_served()
            h.acceptor.hold(True)
            new = await come(h)
            assert not await new.is_served(0.3) and await old.is_served()
            h.acceptor.stop()
            h.acceptor.start()  # by the arbiter: operators' word holds
            assert not await new.is_served(0.2)
            h.acceptor.hold(False)
            async with asyncio.timeout(10):
                assert await new.reader.readexactly(2) == b"xx"

    run(body)
