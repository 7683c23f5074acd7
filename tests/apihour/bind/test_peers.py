"""Peers as people read them."""

from __future__ import annotations

import pytest

from apihour.bind.peers import format_peer, host_of


@pytest.mark.parametrize(("address", "text"), [
    (("127.0.0.1", 1234), "127.0.0.1:1234"),
    (("::1", 1234, 0, 0), "[::1]:1234"),
    ("", "unix"), (None, "unix"), ("/run/x.sock", "/run/x.sock"), (b"\0name", "@name"),
])
def test_peers_for_people(address: object, text: str) -> None:
    assert format_peer(address) == text


def test_a_clients_name_of_its_socket_is_harmless() -> None:
    assert format_peer("/tmp/a\n[2026] [INFO] lie") == "/tmp/a?[2026] [INFO] lie"
    assert format_peer(b"\0\x1b[31mred") == "@?[31mred"
    assert format_peer("") == "unix"


@pytest.mark.parametrize(("peer", "host"), [
    ("127.0.0.1:80", "127.0.0.1"), ("[::1]:80", "::1"), ("unix", "unix"), ("@name", "@name"),
    ("::1", "::1"), ("10.0.0.1", "10.0.0.1"), ("", ""), ("a:b", "a:b"),
])
def test_host_of(peer: str, host: str) -> None:
    assert host_of(peer) == host
