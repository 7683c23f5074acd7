"""A client's address decides which socket of a bind it gets: asked of the kernel itself."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.sockets import open_binds, share_out
from apihour.bind.sticky import slot_of
from apihour.errors import AddressError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_ATTACH_REUSEPORT_CBPF")
CFG = SimpleNamespace(backlog=100, umask=0, uid=0, gid=0)
SOURCES = [f"127.0.{n}.{n * 7 % 250 + 1}" for n in range(20)]


@contextlib.contextmanager
def opened(text: str, slots: int, have: Any = ()) -> Iterator[list[Any]]:
    found = open_binds({"x": [parse_address(text)]}, CFG, slots, have, {})
    try:
        yield found
    finally:
        for one in found:
            one.close()


def arrivals(listeners: list[Any], kind: int, sources: list[str]) -> dict[str, set[int]]:
    """By source: the slots whose sockets got what three clients there sent."""
    target = listeners[0].getsockname()
    with contextlib.ExitStack() as stack:
        for source in sources * 3:
            sock = stack.enter_context(socket.socket(listeners[0].sock.family, kind))
            sock.bind((source, 0))
            sock.connect(target)
            if kind == socket.SOCK_DGRAM:
                sock.send(b"x")
        found: dict[str, set[int]] = {}
        for one in listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    if kind == socket.SOCK_DGRAM:
                        peer = one.sock.recvfrom(9)[1]
                    else:
                        accepted, peer = one.sock.accept()
                        accepted.close()
                    found.setdefault(peer[0], set()).add(one.slot)
    return found


@pytest.mark.parametrize(("text", "kind"), [
    ("127.0.0.1:0?sticky", socket.SOCK_STREAM), ("udp://127.0.0.1:0?sticky", socket.SOCK_DGRAM)])
def test_an_address_has_one_socket_also_when_there_are_more(text: str, kind: int) -> None:
    with opened(text, 3) as three:
        found = arrivals(three, kind, SOURCES)
        assert found == {source: {slot_of(source, 3)} for source in SOURCES}
        assert len(set.union(*found.values())) == 3
        with opened(text, 5, three) as five:
            assert five[:3] == three
            # Nobody reads the new ones before the new workers are ready.
            found = arrivals(five, kind, SOURCES)
            assert found == {source: {slot_of(source, 3)} for source in SOURCES}
            share_out(five)
            found = arrivals(five, kind, SOURCES)
            assert found == {source: {slot_of(source, 5)} for source in SOURCES}


def test_what_another_socket_changes() -> None:
    sources = [f"10.{n % 7}.{n // 250}.{n % 250}" for n in range(4000)]
    before = [slot_of(source, 1) for source in sources]
    for count in range(2, 20):
        after = [slot_of(source, count) for source in sources]
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        assert {*moved} == {count}  # none goes from an old one to another
        assert len(moved) == pytest.approx(len(sources) / count, rel=0.25)
        before = after


def test_ipv6() -> None:
    with opened("[::1]:0?sticky", 4) as four:
        assert arrivals(four, socket.SOCK_STREAM, ["::1"]) == {"::1": {slot_of("::1", 4)}}
    assert slot_of("2001:db8::1", 7) == slot_of("2001:db8::ffff:1", 7)
    assert len({slot_of(f"2001:db8:0:{n:x}::1", 7) for n in range(40)}) == 7


@pytest.mark.parametrize("text", [
    "unix:/run/x.sock?sticky", "127.0.0.1:80?sticky&proxy=10.0.0.0/8", "fd://3?sticky",
    "systemd:x?sticky"])
def test_where_no_client_can_be_told_by_its_address_it_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="sticky"):
        parse_address(text)


def test_its_text() -> None:
    address = parse_address("127.0.0.1:80?sticky")
    assert address.sticky and address.reuse_port and str(address) == "127.0.0.1:80?sticky"
    assert parse_address("127.0.0.1:80?sticky&reuse_port") == address
