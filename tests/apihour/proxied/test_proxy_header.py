"""Headers of the PROXY protocol: what they say, where they end, and what is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour.bind.trusted_proxies import TrustedProxies
from apihour.proxied.proxy_header import ProxyError, ProxyFacts, ProxyHeader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack("!HH", 1000, 80)
V6 = bytes(15) + b"\1" + bytes(15) + b"\2" + struct.pack("!HH", 1000, 80)


def v2(body: bytes = V4, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def value(kind: int, data: bytes) -> bytes:
    return struct.pack("!BH", kind, len(data)) + data


def ssl(client: int, verify: int, *inner: bytes) -> bytes:
    return value(0x20, struct.pack("!BI", client, verify) + b"".join(inner))


BOTH = (("10.0.0.1", 1000), ("10.0.0.2", 80))
GOOD = {
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n": ProxyFacts(*BOTH),
    b"PROXY TCP6 ::1 ::2 1000 80\r\n": ProxyFacts(("::1", 1000, 0, 0), ("::2", 80, 0, 0)),
    b"PROXY UNKNOWN\r\n": ProxyFacts(),
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": ProxyFacts(),
    v2(): ProxyFacts(*BOTH),
    v2(V6, 0x21): ProxyFacts(("::1", 1000, 0, 0), ("::2", 80, 0, 0)),
    v2(b"", 0, 0x20): ProxyFacts(),
    v2(V4, 0x11, 0x20): ProxyFacts(),
    v2(b"whatever", 0): ProxyFacts(),
    v2(V4, 0x12): ProxyFacts(),  # a datagram's: the addresses of the connection hold
    v2(bytes(216), 0x31): ProxyFacts(),
    v2(V4 + value(0x01, b"h2") + value(0xEE, b"?") + value(0x02, b"a.example")): ProxyFacts(
        *BOTH, alpn="h2", server_name="a.example"),
    v2(V4 + ssl(1, 0, value(0x21, b"TLSv1.3"), value(0x22, b"me"))): ProxyFacts(
        *BOTH, tls="TLSv1.3", common_name="me"),
    v2(V4 + ssl(1, 0, value(0x21, b"TLSv1.3"), value(0x22, b"me"), value(0x28, b"\x30\x82"))):
        ProxyFacts(*BOTH, tls="TLSv1.3", common_name="me", certificate=b"\x30\x82"),
    v2(V4 + ssl(1, 1, value(0x28, b"\x30"), value(0x21, b"TLSv1.3"),
                value(0x22, b"liar"))): ProxyFacts(
        *BOTH, tls="TLSv1.3"),
    v2(V4 + ssl(0, 0)): ProxyFacts(*BOTH),
    v2(V4 + ssl(1, 0)): ProxyFacts(*BOTH, tls="TLS"),
}


@pytest.mark.parametrize("header", GOOD)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_a_header_says_and_where_it_ends(header: bytes, step: int) -> None:
    data, reader, at = header + b"GET / HTTP/1.1\r\nPROXY \n", ProxyHeader(), 0
    while reader.facts is None:
        took = reader.feed(data[at:at + step])
        assert took > 0
        at += took
    assert reader.facts == GOOD[header] and at == len(header)


@pytest.mark.parametrize(("data", "told"), [
    (b"GET / HTTP/1.1\r\n", "expected a header of the PROXY protocol"),
    (b"\x16\x03\x01", "expected a header"), (b"PROXX", "expected a header"),
    (b"\r\n\r\nQUIT", "expected a header"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\n", "expected CRLF"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 1000\r\n", "two addresses and two ports"),
    (b"PROXY UDP4 10.0.0.1 10.0.0.2 1000 80\r\n", "expected TCP4 or TCP6"),
    (b"PROXY TCP4 ::1 10.0.0.2 1000 80\r\n", "an address of IPv4"),
    (b"PROXY TCP4 evil 10.0.0.2 1000 80\r\n", "b'evil': expected an address"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 80\r\n", "expected a port"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 -1 80\r\n", "expected a port"),
    (b"PROXY " + b"x" * 200, "more than 107 bytes"),
    (v2(command=0x31), "0x31: expected 0x20 or 0x21"), (v2(command=0x22), "0x22: expected"),
    (v2(V4[:-1]), "11 bytes: expected addresses"), (v2(V6[:-1], 0x21), "over IPv6"),
    (v2(V4 + b"\1"), "cut"), (v2(V4 + b"\1\0\5h2"), "cut"),
    (SIGNATURE + b"\x21\x11\xff\xff", "65535 bytes: expected at most 4096"),
])
def test_what_is_no_header(data: bytes, told: str) -> None:
    with pytest.raises(ProxyError, match=told.replace("(", "\\(")):
        assert ProxyHeader().feed(data) == len(data)
        raise AssertionError("accepted")


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE, v2(), v2(V6, 0x21)]))
def test_whatever_comes_is_a_header_or_an_error(data: bytes, begin: bytes) -> None:
    data = begin + data
    reader = ProxyHeader()
    try:
        assert 0 <= reader.feed(data) <= len(data)
    except ProxyError:
        return
    assert reader.facts is not None or len(data) < 4200


@pytest.mark.parametrize(("networks", "peer", "trusted"), [
    ("10.0.0.0/8,127.0.0.1", ("10.1.2.3", 1), True),
    ("10.0.0.0/8,127.0.0.1", ("127.0.0.1", 1), True),
    ("10.0.0.0/8", ("11.0.0.1", 1), False), ("10.0.0.0/8", ("::ffff:10.0.0.1", 1, 0, 0), True),
    ("fe80::/16", ("fe80::1%eth0", 1, 0, 2), True), ("10.0.0.0/8", "", False),
    ("unix", "", True), ("unix", b"\0name", True), ("unix", ("10.0.0.1", 1), False),
    ("*", ("10.0.0.1", 1), True), ("*", "", True),
])
def test_who_is_trusted(networks: str, peer: object, trusted: bool) -> None:
    assert TrustedProxies(networks).trusts(peer) is trusted
