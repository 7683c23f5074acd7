"""The arbiter's control socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apihour.ipc import peer_socket
from apihour.ipc.wire import Framer, encode
from apihour.orders import requesters
from apihour.orders.control import Control
from apihour.orders.requesters import ControlRequest


class House:
    """A control socket turned by hand, as the arbiter's loop does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[ControlRequest] = []
        self.control = Control(self.path, (os.geteuid(), os.getegid()), self.requests.append)
        self.clients: list[socket.socket] = []

    def client(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.settimeout(5)
        self.clients.append(sock)
        self.turn()
        return sock

    def turn(self) -> None:
        for read in self.control.watched().values():
            read()

    def ask(self, sock: socket.socket, **message: Any) -> None:
        sock.sendall(encode(message))
        self.turn()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "arbiter.sock")
    yield house
    for client in house.clients:
        client.close()
    house.control.close()


def receive(sock: socket.socket, count: int = 1) -> list[dict[str, Any]]:
    framer, messages = Framer(), []
    while len(messages) < count:
        data = sock.recv(65536)
        assert data, "closed before the answer"
        messages += framer.feed(data)
    return messages


def test_only_its_user_may_connect(house: House) -> None:
    assert stat.S_IMODE(os.stat(house.path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(house.path)) == ["arbiter.sock"]


def test_a_request_and_its_answer(house: House) -> None:
    client = house.client()
    house.ask(client, id=7, command="scale", arguments={"workers": 2}, role="admin")
    (request,) = house.requests
    assert (request.command, request.arguments, request.role) == ("scale", {"workers": 2}, "admin")
    request.answer([{"workers": 2}])
    assert receive(client) == [{"id": 7, "result": [{"workers": 2}]}]


def test_answers_may_come_late_and_in_any_order(house: House) -> None:
    client = house.client()
    house.ask(client, id=1, command="reload")
    house.ask(client, id=2, command="workers")
    first, second = house.requests
    second.answer([])
    first.fail("it is broken", "failed", "Traceback")
    assert receive(client, 2) == [
        {"id": 2, "result": []},
        {"id": 1, "error": "it is broken", "kind": "failed", "detail": "Traceback"},
    ]


def test_what_was_cancelled_before_it_was_read_is_not_begun(house: House) -> None:
    client = house.client()
    client.sendall(encode({"id": 1, "command": "reload"}) + encode({"id": 2, "command": "scale"})
                   + encode({"id": 1, "cancel": True}))
    house.turn()
    assert [request.command for request in house.requests] == ["scale"]
    house.ask(client, id=2, cancel=True)  # too late: it is under way
    assert len(house.requests) == 1


def test_missing_parts_become_harmless(house: House) -> None:
    house.ask(house.client(), arguments=[1, 2])
    (request,) = house.requests
    assert (request.id, request.command, request.arguments, request.role) == (
        None, "None", {}, "None")


@pytest.mark.parametrize("garbage", [
    b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x04nope", (1 << 20).to_bytes(4, "big"),
])
def test_garbage_costs_its_own_connection_only(house: House, garbage: bytes) -> None:
    bad, good = house.client(), house.client()
    bad.sendall(garbage)
    house.turn()
    assert bad.recv(1) == b""
    house.ask(good, id=1, command="x")
    assert len(house.requests) == 1


def test_an_answer_to_one_who_left_is_dropped(house: House) -> None:
    client = house.client()
    house.ask(client, id=1, command="reload")
    client.close()
    house.turn()
    house.requests[0].answer([])
    assert len(house.control.watched()) == 1


def test_one_who_does_not_read_is_dropped_without_blocking(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requesters, "_UNSENT", 100_000)
    client = house.client()
    house.ask(client, id=1, command="x")
    for _ in range(200):
        house.requests[0].answer(["x" * 10_000])
    assert len(house.control.watched()) == 1


def test_a_large_answer_goes_out_in_turns(house: House) -> None:
    client = house.client()
    house.ask(client, id=1, command="x")
    rows = [{"text": "x" * 1000}] * 2000
    house.requests[0].answer(rows)
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += client.recv(1 << 20)
        house.control.watched()
    assert json.loads(data[4:])["result"] == rows


def test_so_many_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.control._listener, "clients", 2)
    house.client()
    house.client()
    assert house.client().recv(1) == b""


def test_another_user_is_not_heard(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_socket, "peer_uid", lambda sock: 12345)
    assert house.client().recv(1) == b""
    assert len(house.control.watched()) == 1


def test_the_peers_uid_is_the_kernels_word() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert peer_socket.peer_uid(one) == os.geteuid()


def test_a_second_one_takes_the_path_over(house: House) -> None:
    """An upgrade: the new arbiter's socket replaces the old one's, which leaves it alone."""
    requests: list[ControlRequest] = []
    after = Control(house.path, (os.geteuid(), os.getegid()), requests.append)
    house.control.close()
    assert os.path.exists(house.path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(house.path)
    after.close()
    assert not os.path.exists(house.path)


def test_a_child_closes_and_leaves_the_path(house: House) -> None:
    house.client()
    house.control.close_inherited()
    assert os.path.exists(house.path)
