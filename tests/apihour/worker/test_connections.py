"""The connection table of a worker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from apihour.ops.connection_row import byte_counts, connection_row
from apihour.ops.ids import Ids
from apihour.worker.connections import ConnectionTable
from apihour.worker.handed import Descriptor
from apihour.worker.tracked_socket import TrackedSocket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield server, client


Pair = tuple[socket.socket, socket.socket]


def test_rows_come_and_go_and_are_counted(pair: Pair) -> None:
    numbers, left = [0.0, 0.0], []
    table = ConnectionTable("1.2", numbers)
    one = table.add(
        pair[0], "http", "http", ("127.0.0.1", 5), left=lambda _: left.append(list(numbers)))
    two = table.add(pair[0], "echo", "tcp", "")
    assert (len(table), table.accepted, numbers, one.entrance.open) == (2, 2, [2, 2], 1)
    assert list(table) == [one, two]
    table.remove(one)
    table.remove(one)
    assert (len(table), table.accepted, numbers, one.entrance.open) == (1, 2, [1, 2], 0)
    assert left == [[1, 2]]


def test_iterating_allows_removal(pair: Pair) -> None:
    table = ConnectionTable()
    for _ in range(3):
        table.add(pair[0], "x", "tcp", "")
    for conn in table:
        table.remove(conn)
    assert len(table) == 0


def test_found_by_the_name_operators_write(pair: Pair) -> None:
    table = ConnectionTable("1.2")
    conn = table.add(pair[0], "x", "tcp", "")
    assert table.label(conn.id) == "1.2-1"
    assert table.find("1.2-1") is conn
    assert table.find("1") is conn
    for wrong in ("1.3-1", "2", "", "x", "1.2-", "1.2-1.5"):
        assert table.find(wrong) is None, wrong
    assert ConnectionTable().label(7) == "7"


def test_ids_of_the_process_before_are_nobodys(pair: Pair) -> None:
    table = ConnectionTable("1.2", ids=Ids("1.2", 2))
    conn = table.add(pair[0], "x", "tcp", "")
    assert table.label(conn.id) == "1.2-2.1"
    assert table.find("1.2-2.1") is conn
    for other in ("1.2-1", "1", "1.2-3.1", "1.2-2.", "1.2-2.1.1", "1.2-2.x"):
        assert table.find(other) is None, other
    assert ConnectionTable("1.2").find("1.2-2.1") is None, "nor is it one of the first's"


def test_byte_counts_come_from_the_kernel(pair: Pair) -> None:
    server, client = pair
    conn = ConnectionTable().add(server, "x", "tcp", "")
    assert byte_counts(conn.sock) == (0, 0)
    client.sendall(b"x" * 1000)
    server.sendall(b"y" * 300)
    assert len(client.recv(300, socket.MSG_WAITALL)) == 300
    assert len(server.recv(1000, socket.MSG_WAITALL)) == 1000
    for _ in range(1000):  # the acknowledgement of the 300 is the kernel's to send
        if byte_counts(conn.sock) == (1000, 300):
            return
    assert byte_counts(conn.sock) == (1000, 300)


def test_byte_counts_are_unknown_elsewhere(pair: Pair) -> None:
    one, two = socket.socketpair()
    with one, two:
        assert byte_counts(ConnectionTable().add(one, "x", "tcp", "").sock) == (-1, -1)
    conn = ConnectionTable().add(pair[0], "x", "tcp", "")
    pair[0].close()
    assert byte_counts(conn.sock) == (-1, -1)


def test_a_record_is_what_is_known_now(pair: Pair) -> None:
    conn = ConnectionTable("2.1").add(pair[0], "http", "http", ("::1", 9))
    conn.state, conn.requests = "idle", 4
    record = connection_row(conn, "1.1")
    assert (record.id, record.server, record.protocol, record.peer) == (
        "2.1-1", "http", "http", "[::1]:9")
    assert (record.state, record.requests, record.bytes_in) == ("idle", 4, 0)
    assert 0 <= record.age < 5


async def test_close_aborts_the_transport(pair: Pair) -> None:
    server, _client = pair
    conn = ConnectionTable().add(server, "x", "tcp", "")
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        asyncio.Protocol, server)
    conn.transport = transport
    conn.close("kicked")
    assert transport.is_closing()
    assert conn.state == "closing: kicked"


@pytest.mark.parametrize("kind", [Descriptor, TrackedSocket])
def test_close_before_there_is_a_transport(
    pair: Pair, kind: type[Descriptor | TrackedSocket]
) -> None:
    server, client = pair
    handed = kind(server.family, server.detach())
    table = ConnectionTable()
    conn = handed.conn = table.add(handed, "x", "tcp", "")
    conn.close()
    assert client.recv(1) == b""
    assert (conn.state, handed.fileno(), len(table)) == ("closing", -1, 0)


def test_a_descriptor_alone_tells_byte_counts_and_stays_open(pair: Pair) -> None:
    server, client = pair
    handed = Descriptor(server.family, server.detach())
    conn = handed.conn = ConnectionTable().add(handed, "x", "tcp", "")
    client.sendall(b"x" * 1000)
    assert len(os.read(handed.fileno(), 1000)) == 1000
    assert byte_counts(conn.sock) == (1000, 0)
    assert byte_counts(conn.sock) == (1000, 0)
    conn.close()
    assert byte_counts(conn.sock) == (-1, -1)


@pytest.mark.parametrize("kind", [Descriptor, TrackedSocket])
def test_options_are_set_on_either(pair: Pair, kind: type[Descriptor | TrackedSocket]) -> None:
    handed = kind(pair[0].family, pair[0].detach())
    handed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert any(handed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 4))
    handed.give_up()
