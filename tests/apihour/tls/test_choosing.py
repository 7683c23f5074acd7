"""Several certificates on one bind: each client gets that of the name it asks for."""

from __future__ import annotations

import gc
import os
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.config.settings import HostConfig
from apihour.tls.choosing import hush_bad_names
from apihour.tls.termination import Terminator, prepare
from tests.certificates import Authority


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """A client's end of a handshake that has come to its end, in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=name)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for one in (asking, answering):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert asking.version() is not None
    return asking


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("first")
    made.issue("a", names=["a.example", "b.example"])
    made.issue("wild", names=["*.shop.example", "a.example"])
    return made


def terminator(authority: Authority, query: str, **options: object) -> Terminator:
    cfg = HostConfig()
    for name, value in options.items():
        cfg.set(name, value)
    address = parse_address("127.0.0.1:0?" + query.replace("@", f"{authority.directory}/"))
    listener = Listener("x", address, None, False)  # type: ignore[arg-type]
    return prepare(cfg, [listener])[listener]


def subject(made: Terminator, authority: Authority, name: str | None) -> str:
    client = authority.client()
    client.check_hostname = False
    peer = shake(made.context, client, name).getpeercert()
    assert peer is not None
    ((_, found),) = peer["subject"][0]  # type: ignore[misc]
    return str(found)


def test_names_wildcards_and_the_first_for_all_others(authority: Authority) -> None:
    made = terminator(authority, "tls=@first.pem&tls=@a.pem&tls=@wild.pem")
    for name, expected in {
        "a.example": "a", "B.EXAMPLE": "a", "www.shop.example": "wild", "Www.Shop.Example": "wild",
        "shop.example": "first", "x.www.shop.example": "first", "c.example": "first",
        "localhost": "first", None: "first", "*.shop.example": "wild",
    }.items():
        assert subject(made, authority, name) == expected, name
    assert made.files == [f"{authority.directory}/{one}.pem" for one in ("first", "a", "wild")]


def test_alpn_is_offered_whatever_the_name(authority: Authority) -> None:
    made = terminator(authority, "tls=@first.pem&tls=@a.pem")
    made.offer(("h2", "http/1.1"))
    client = authority.client()
    client.set_alpn_protocols(["http/1.1", "h2"])
    for name in ("localhost", "a.example"):
        assert shake(made.context, client, name).selected_alpn_protocol() == "h2"


def test_a_hook_that_chooses_by_name_has_the_last_word(authority: Authority) -> None:
    asked = []

    def hook(config: object, default: object) -> ssl.SSLContext:
        context: ssl.SSLContext = default()  # type: ignore[operator]
        context.sni_callback = lambda *args: asked.append(args[1])  # type: ignore[misc]
        return context

    made = terminator(authority, "tls=@first.pem&tls=@a.pem", ssl_context=hook)
    assert subject(made, authority, "a.example") == "first"
    assert asked[-1] == "a.example"


def test_one_certificate_costs_no_callback(authority: Authority) -> None:
    assert terminator(authority, "tls=@first.pem").context.sni_callback is None


def test_modern_refuses_tls_1_2(authority: Authority) -> None:
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for query in ("tls=@first.pem", "tls=@first.pem&tls=@a.pem"):
        assert shake(terminator(authority, query).context, client, "localhost").version() == (
            "TLSv1.2")
        with pytest.raises(ssl.SSLError):
            shake(terminator(authority, query + "&tls=modern").context, client, "localhost")


def hello(name: bytes) -> bytes:
    """A ClientHello of TLS 1.3 with that server name, whatever it is."""
    entry = struct.pack("!HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack("!HH", 0, len(entry)) + entry + bytes.fromhex(
        "002b0003020304" "000d000400020403" "000a00040002001d" "003300260024001d0020"
    ) + os.urandom(32)
    body = (b"\x03\x03" + os.urandom(32) + b"\x00\x00\x02\x13\x01\x01\x00"
            + struct.pack("!H", len(extensions)) + extensions)
    message = b"\x01" + struct.pack("!I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


@pytest.mark.parametrize(("name", "works"), [
    (b"a.example", True), (b"x" * 255, True), (b"\x1b[31m", True), (b"..", True),
    (b"\xff\xfe", False), (b"\xc3\xa9.example", False), (b"a\0b", False), (b"x" * 256, False)])
def test_a_hostile_name_costs_its_handshake_and_no_line(
    authority: Authority, name: bytes, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.err_msg))
    hush_bad_names()
    made = terminator(authority, "tls=@first.pem&tls=@a.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    up.write(hello(name))
    answering = made.context.wrap_bio(up, down, server_side=True)
    with pytest.raises(ssl.SSLError) as caught:
        answering.do_handshake()
    assert isinstance(caught.value, ssl.SSLWantReadError) is works  # it wants the client's Finished
    assert told == []
    holder = Failing()
    del holder
    gc.collect()
    assert len(told) == 1  # others are told as before


class Failing:
    def __del__(self) -> None:
        raise RuntimeError("of somebody else")
