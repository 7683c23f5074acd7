"""Connections that begin with a PROXY header, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour.bind.ban_book import BanBook, parse_network
from apihour.bind.bans import Bans
from apihour.ops.connection_row import connection_row
from apihour.proxied import proxy_gate
from apihour.tls.termination import Terminator
from tests.apihour.loops import Run, run, wait_until
from tests.apihour.worker.test_accept import House, house
from tests.certificates import Authority

__all__ = ["run"]

log = logging.getLogger("test.proxied")
HEADER = b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n"


@contextlib.asynccontextmanager
async def behind(networks: str = "127.0.0.0/8") -> AsyncIterator[House]:
    async with house(networks=networks) as h:
        yield h


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 30) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("steps", [1, 3, 1000])
def test_the_client_is_the_peer_and_nothing_of_it_is_lost(run: Run, steps: int) -> None:
    async def body() -> None:
        async with behind() as h:
            reader, writer = await h.client()
            data = HEADER + b"hello"
            for at in range(0, len(data), steps):
                writer.write(data[at:at + steps])
                await writer.drain()
                await asyncio.sleep(0)
            assert await asyncio.wait_for(reader.readexactly(5), 30) == b"hello"
            (conn,) = h.table
            record = connection_row(conn, "1.1")
            assert record.peer == conn.peer == "10.0.0.1:1000"
            assert record.via == "{}:{}".format(*writer.get_extra_info("sockname"))
            assert conn.proxied is not None
            assert conn.proxied.destination == ("10.0.0.2", 80)

    run(body)


def test_a_proxys_own_connection_keeps_its_address(run: Run) -> None:
    async def body() -> None:
        async with behind() as h:
            writer = await h.says_behind(b"PROXY UNKNOWN\r\n", b"hello")
            (conn,) = h.table
            assert conn.peer == "{}:{}".format(*writer.get_extra_info("sockname"))

    run(body)


def test_strangers_and_what_is_no_header_are_closed_and_said_once(
    run: Run, caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> None:
        async with behind("10.0.0.0/8") as h:
            for _ in range(3):
                reader, writer = await h.client()
                writer.write(HEADER)
                assert await closed(reader)
            assert not len(h.table) and h.acceptor.proxy is not None
            assert h.acceptor.proxy.refused == 3
        async with behind() as h:
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PROXY TCP4 a b c d\r\n"):
                reader, writer = await h.client()
                writer.write(data)
                assert await closed(reader)
            reader, writer = await h.client()
            writer.write(HEADER[:10])
            writer.write_eof()
            assert await closed(reader)
            await wait_until(lambda: not len(h.table))
            assert h.acceptor.open == 0 and h.acceptor.proxy is not None
            assert h.acceptor.proxy.refused == 4

    with caplog.at_level(logging.WARNING):
        run(body)
    first, second = [record.getMessage() for record in caplog.records]
    assert "closed: it is no proxy of this bind's (1 so far)" in first
    assert "expected a header of the PROXY protocol (1 so far)" in second


def test_a_header_that_does_not_come_is_waited_for_in_vain(
    run: Run, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_gate, "_TIMEOUT", 0.05)

    async def body() -> None:
        async with behind() as h:
            reader, writer = await h.client()
            writer.write(HEADER[:20])
            assert await closed(reader)
            await wait_until(lambda: not len(h.table))

    run(body)


def test_one_that_waits_for_its_header_is_listed_and_can_be_closed(run: Run) -> None:
    async def body() -> None:
        async with behind() as h:
            reader, _ = await h.client()
            await wait_until(lambda: len(h.table) == 1)
            (conn,) = h.table
            await wait_until(lambda: connection_row(conn, "1.1").state == "proxy")
            assert h.acceptor.attaching()
            conn.close("kicked")
            assert await closed(reader)
            await wait_until(lambda: not len(h.table))
            assert not h.acceptor.attaching()

    run(body)


def test_a_ban_is_of_the_client_and_not_of_its_proxy(run: Run, tmp_path: Any) -> None:
    async def body() -> None:
        book = BanBook(tmp_path / "bans", (-1, -1))
        book.add(parse_network("127.0.0.0/8"), 60.0, "test")
        book.add(parse_network("10.0.0.1"), 60.0, "test")
        async with behind() as h:
            h.table.bans = bans = Bans(tmp_path / "bans", log)
            bans.look()
            reader, writer = await h.client()
            writer.write(HEADER)
            assert await closed(reader)
            await h.says_behind(HEADER.replace(b"10.0.0.1", b"10.0.0.9"), b"hello")
            assert h.acceptor.banned == 1

    run(body)


def test_addresses_of_ipv6_by_version_2(run: Run) -> None:
    async def body() -> None:
        addresses = bytes(15) + b"\1" + bytes(15) + b"\2" + struct.pack("!HH", 1000, 80)
        header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack("!H", len(addresses)) + addresses
        async with behind() as h:
            await h.says_behind(header, b"hello")
            (conn,) = h.table
            assert conn.peer == "[::1]:1000"

    run(body)


def test_tls_behind_the_header(run: Run, tmp_path: Any) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")

    def talk(address: Any) -> bytes:
        with socket.create_connection(address, 30) as plain:
            plain.sendall(HEADER)
            with authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                sock.sendall(b"hello")
                return sock.recv(5)

    async def body() -> None:
        async with house(networks="127.0.0.1", tls=Terminator(lambda: [context], 20.0)) as h:
            assert await asyncio.to_thread(talk, h.sock.getsockname()) == b"hello"
            (conn,) = h.server.conns
            assert conn.peer == "10.0.0.1:1000" and conn.tls is not None

    run(body)
