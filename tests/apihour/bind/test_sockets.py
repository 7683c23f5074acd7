"""Which sockets the arbiter must hold, beside those it has."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bind import sockets as module
from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.bind.sockets import discard, open_binds, open_extras
from apihour.errors import BindError, ConfigurationError
from tests.ports import free_port


class House:
    """The listeners of one daemon, from one set of binds to the next."""

    def __init__(self) -> None:
        self.cfg: Any = SimpleNamespace(
            backlog=16, umask=0, uid=os.geteuid(), gid=os.getegid(), no_console=False,
            console=None, health=None, keys="no-keys-here")
        self.listeners: list[Listener] = []
        self.everything: list[Listener] = []

    def bind(self, slots: int = 1, **binds: str) -> list[Listener]:
        """Open what is missing; returns what was opened."""
        wanted = {name: [parse_address(text) for text in texts.split()]
                  for name, texts in binds.items()}
        before = self.listeners
        self.listeners = open_binds(wanted, self.cfg, slots, before, {})
        opened = [listener for listener in self.listeners if listener not in before]
        self.everything += opened
        return opened

    def extras(self, have: dict[str, Listener], **options: str) -> dict[str, Listener]:
        cfg = SimpleNamespace(**{**vars(self.cfg), **options})
        found = open_extras(cfg, have)
        self.everything += found.values()
        return found

    def names(self) -> list[str]:
        return [listener.name for listener in self.listeners]


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for listener in house.everything:
        listener.close()


def test_a_bind_that_stays_keeps_its_socket(house: House) -> None:
    house.bind(http="127.0.0.1:0", echo="127.0.0.1:0")
    http, echo = house.listeners
    opened = house.bind(http="127.0.0.1:0", dns="udp://127.0.0.1:0")
    assert house.listeners[0] is http
    assert [listener.name for listener in opened] == ["dns"]
    assert house.names() == ["http", "dns"]
    assert http.fileno() >= 0 and echo.fileno() >= 0  # closing is the arbiter's, later


def test_new_options_of_a_bind_that_stays_are_known(house: House) -> None:
    house.bind(http="127.0.0.1:0")
    (http,) = house.listeners
    assert house.bind(http="127.0.0.1:0?limit=5") == []
    assert house.listeners == [http]
    assert http.address.limit == 5


def test_all_that_are_missing_or_none(house: House, tmp_path: Path) -> None:
    house.bind(http="127.0.0.1:0")
    before = house.listeners
    with (socket.create_server(("127.0.0.1", 0)) as taken,
          pytest.raises(BindError, match="bind x=127")):
        house.bind(http="127.0.0.1:0", u=f"unix:{tmp_path}/u.sock",
                   x=f"127.0.0.1:{taken.getsockname()[1]}")
    assert house.listeners == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["tcp", "unix", "reuse_port"])
def test_another_name_for_a_bind_is_the_same_socket(
    house: House, place: str, tmp_path: Path
) -> None:
    bind = {"tcp": f"127.0.0.1:{free_port()}", "unix": f"unix:{tmp_path}/u.sock",
            "reuse_port": f"127.0.0.1:{free_port()}?reuse_port"}[place]
    house.bind(slots=2, old=bind)
    before = house.listeners
    opened = house.bind(slots=2, new=bind)
    assert [x.name for x in before] == ["old"] * len(before)  # they serve on as they are
    assert opened == house.listeners
    assert [(x.name, x.slot) for x in opened] == [("new", x.slot) for x in before]
    for old, new in zip(before, opened, strict=True):
        assert os.fstat(old.fileno()).st_ino == os.fstat(new.fileno()).st_ino
    discard(before, house.listeners)
    for listener in house.listeners:
        client = socket.socket(listener.sock.family)
        with client:
            client.connect(listener.getsockname())
    discard(house.listeners, [])
    assert list(tmp_path.iterdir()) == []


def test_names_may_be_swapped(house: House) -> None:
    one, two = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    house.bind(a=one, b=two)
    ports = [x.getsockname()[1] for x in house.listeners]
    house.bind(a=two, b=one)
    assert [x.getsockname()[1] for x in house.listeners] == ports[::-1]
    assert house.names() == ["a", "b"]


def test_nothing_is_left_of_a_new_name_when_another_bind_fails(
    house: House, tmp_path: Path
) -> None:
    house.bind(old=f"unix:{tmp_path}/u.sock")
    count = len(os.listdir("/proc/self/fd"))
    with (socket.create_server(("127.0.0.1", 0)) as taken,
          pytest.raises(BindError, match="bind x=127")):
        house.bind(new=f"unix:{tmp_path}/u.sock", x=f"127.0.0.1:{taken.getsockname()[1]}")
    assert len(os.listdir("/proc/self/fd")) == count
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/u.sock")


def test_it_says_so_when_its_own_socket_is_in_the_way(house: House) -> None:
    port = free_port()
    house.bind(http=f"127.0.0.1:{port}")
    with pytest.raises(BindError, match=r"\(this daemon holds http=127\.0\.0\.1:\d+ itself\)"):
        house.bind(http=f"0.0.0.0:{port}")
    assert house.listeners[0].fileno() >= 0


def test_reuse_port_makes_a_socket_for_each_worker(house: House) -> None:
    house.bind(slots=3, http="127.0.0.1:0?reuse_port", echo="127.0.0.1:0")
    assert [(x.name, x.slot) for x in house.listeners] == [
        ("http", 1), ("http", 2), ("http", 3), ("echo", 0)]
    assert len({x.getsockname() for x in house.listeners[:3]}) == 1


def test_more_workers_get_sockets_on_the_same_port_the_others_keep_theirs(house: House) -> None:
    house.bind(slots=2, http="127.0.0.1:0?reuse_port")
    before = house.listeners
    (opened,) = house.bind(slots=3, http="127.0.0.1:0?reuse_port")
    assert house.listeners == [*before, opened]
    assert opened.slot == 3
    assert opened.getsockname() == before[0].getsockname()
    house.bind(slots=1, http="127.0.0.1:0?reuse_port")
    assert house.listeners == [*before, opened]  # what waits in its backlog would be reset


@pytest.mark.parametrize(("before", "after"), [("", "?reuse_port"), ("?reuse_port", "")])
def test_reuse_port_cannot_be_switched_on_a_socket_in_use(
    house: House, before: str, after: str
) -> None:
    port = free_port()
    house.bind(http=f"127.0.0.1:{port}{before}")
    with pytest.raises(BindError, match="reuse_port cannot be switched"):
        house.bind(http=f"127.0.0.1:{port}{after}")


@pytest.mark.parametrize(("before", "after"), [("", "?tls"), ("?tls=x.pem", "")])
def test_tls_cannot_be_switched_on_a_socket_in_use(house: House, before: str, after: str) -> None:
    port = free_port()
    house.bind(http=f"127.0.0.1:{port}{before}")
    with pytest.raises(BindError, match="tls cannot be switched"):
        house.bind(http=f"127.0.0.1:{port}{after}")


def test_other_certificates_are_taken_by_a_socket_in_use(house: House) -> None:
    port = free_port()
    house.bind(http=f"127.0.0.1:{port}?tls")
    assert house.bind(http=f"127.0.0.1:{port}?tls=x.pem") == []


def test_extras_are_kept_opened_and_dropped(house: House) -> None:
    assert house.extras({}) == {}
    first = house.extras({}, console="127.0.0.1:0", health="127.0.0.1:0")
    assert sorted(first) == ["console", "health"]
    second = house.extras(first, console="127.0.0.1:0")
    assert second == {"console": first["console"]}
    assert house.extras(first, console="127.0.0.1:0", no_console="1") == {}


def test_health_without_the_console_that_serves_it_is_refused(house: House) -> None:
    with pytest.raises(ConfigurationError, match=(
            r"^--health '127\.0\.0\.1:0': the console process serves it; "
            r"expected no --no-console with it$")):
        house.extras({}, health="127.0.0.1:0", no_console="1")
    assert house.everything == []


def test_the_default_console_is_kept_while_keys_allow_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = house.extras({}, console="127.0.0.1:0")
    monkeypatch.setattr(module, "may_open_shell", lambda cfg: True)
    assert house.extras(held) == held
    monkeypatch.setattr(module, "may_open_shell", lambda cfg: False)
    assert house.extras(held) == {}


def test_a_bad_or_taken_address_of_an_extra(house: House) -> None:
    with pytest.raises(ConfigurationError, match=r"--console: .*'nope'"):
        house.extras({}, console="nope")
    with (socket.create_server(("127.0.0.1", 0)) as taken,
          pytest.raises(BindError, match="address in use")):
        house.extras({}, health=f"127.0.0.1:{taken.getsockname()[1]}")
