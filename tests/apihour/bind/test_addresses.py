"""Parsing the text of a bind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour.bind.addresses import BindAddress, parse_address, parse_bind
from apihour.bind.tls_options import CertificateFiles, TLSOptions
from apihour.errors import AddressError

GOOD = {
    "127.0.0.1:8000": BindAddress("tcp", "127.0.0.1", 8000),
    "tcp://127.0.0.1:8000": BindAddress("tcp", "127.0.0.1", 8000),
    " localhost:80 ": BindAddress("tcp", "localhost", 80),
    ":8000": BindAddress("tcp", "0.0.0.0", 8000),
    "*:0": BindAddress("tcp", "0.0.0.0", 0),
    "[::1]:8000": BindAddress("tcp", "::1", 8000),
    "[fe80::1%eth0]:1": BindAddress("tcp", "fe80::1%eth0", 1),
    "udp://127.0.0.1:53": BindAddress("udp", "127.0.0.1", 53),
    "udp://[::]:53": BindAddress("udp", "::", 53),
    "unix:/run/x.sock": BindAddress("unix", "/run/x.sock"),
    "unix:///run/x.sock": BindAddress("unix", "/run/x.sock"),
    "unix:x.sock?mode=660": BindAddress("unix", "x.sock", mode=0o660),
    "unix:@name": BindAddress("unix", "@name"),
    "fd://3": BindAddress("fd", "", 3),
    "systemd:http": BindAddress("systemd", "http"),
    "1.2.3.4:5?backlog=9&limit=7&reuse_port": BindAddress(
        "tcp", "1.2.3.4", 5, backlog=9, limit=7, reuse_port=True),
    "1.2.3.4:5?tls": BindAddress("tcp", "1.2.3.4", 5, tls=TLSOptions()),
    "unix:x.sock?tls&mode=660": BindAddress("unix", "x.sock", mode=0o660, tls=TLSOptions()),
    "fd://3?tls=/etc/ssl/a%26b.pem": BindAddress(
        "fd", "", 3, tls=TLSOptions((CertificateFiles("/etc/ssl/a&b.pem"),))),
    "1.2.3.4:5?tls=cert.pem&key=my+key.pem": BindAddress(
        "tcp", "1.2.3.4", 5, tls=TLSOptions((CertificateFiles("cert.pem", "my key.pem"),))),
    "x:5?tls=a.pem&tls=b.pem&key=b.key&tls=modern&ca=ca.pem": BindAddress(
        "tcp", "x", 5, tls=TLSOptions(
            (CertificateFiles("a.pem"), CertificateFiles("b.pem", "b.key")), True, "ca.pem")),
    "x:5?tls=a.pem&ocsp=a.der&key=a.key": BindAddress("tcp", "x", 5, tls=TLSOptions(
        (CertificateFiles("a.pem", "a.key", "a.der"),))),
    "x:5?tls=acme&domains=A.example,b.example&tls=modern": BindAddress(
        "tcp", "x", 5, tls=TLSOptions(modern=True, domains=("a.example", "b.example"))),
    "x:5?clients=none&tls=./modern": BindAddress("tcp", "x", 5, tls=TLSOptions(
        (CertificateFiles("./modern"),), clients="none")),
    "1.2.3.4:5?proxy=10.0.0.0/8,::1": BindAddress("tcp", "1.2.3.4", 5, proxy="10.0.0.0/8,::1"),
    "unix:x.sock?proxy=unix": BindAddress("unix", "x.sock", proxy="unix"),
    "1.2.3.4:5?proxy=*&tls": BindAddress("tcp", "1.2.3.4", 5, tls=TLSOptions(), proxy="*"),
}


@pytest.mark.parametrize("text", GOOD)
def test_reads_every_form(text: str) -> None:
    assert parse_address(text) == GOOD[text]


@pytest.mark.parametrize("text", GOOD)
def test_text_of_an_address_reads_back_as_the_same(text: str) -> None:
    address = parse_address(text)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(("text", "expected"), [
    ("", "HOST:PORT"), ("   ", "HOST:PORT"), ("8000", "HOST:PORT"), ("host", "HOST:PORT"),
    ("::1:8000", "[IPV6]:PORT"), ("[::1]", "[IPV6]:PORT"), ("a b:1", "HOST:PORT"),
    ("http://x:1", "HOST:PORT"), ("x:1/path", "HOST:PORT"), ("x:-1", "HOST:PORT"),
    ("x:65536", "a port from 0 to 65535"), ("x:99999", "a port from 0 to 65535"),
    ("unix:", "unix:PATH"), ("unix:@", "unix:PATH"), ("unix:/" + "x" * 108, "at most 107 bytes"),
    ("fd://x", "fd://N"), ("fd://", "fd://N"), ("systemd:", "systemd:NAME"),
    ("unix:/x?mode=999", "'mode=999'"), ("x:1?mode=660", "unix:PATH only"),
    ("unix:/x?reuse_port", "TCP and UDP only"), ("x:1?backlog=0", "'backlog=0'"),
    ("x:1?proxy", "'proxy' of networks; expected networks"), ("x:1?proxy=me", "'me': expected an"),
    ("udp://x:1?proxy=*", "'proxy' on stream binds only"),
    ("x:1?limit=many", "'limit=many'"), ("x:1?colour=red", "'colour=red'"),
    ("x:1?reuse_port=maybe", "'reuse_port=maybe'"), ("x:1?key=k.pem", "behind its tls=FILE"),
    ("x:1?tls&key=k.pem", "behind its tls=FILE"), ("x:1?tls=c.pem&key=", "'key'"),
    ("x:1?tls=a&key=b&key=c", "'key' behind its tls=FILE"), ("x:1?tls&ocsp=a", "'ocsp' behind"),
    ("x:1?tls=a&tls=modern&key=k", "behind its tls=FILE"), ("x:1?ca=a.pem", "'ca' beside tls only"),
    ("x:1?tls=acme", "tls=acme and domains=NAMES"), ("x:1?tls&domains=a.example", "tls=acme and"),
    ("x:1?tls=acme&domains=*.a.example", "'*.a.example'; wildcards want DNS"),
    ("x:1?tls=acme&domains=a.example,", "names such as"), ("x:1?tls=acme&domains=a", "not 'a'"),
    ("x:1?tls=acme&domains=a.example&tls=x.pem", "tls=acme without tls=FILE"),
    ("x:1?tls=acme&domains=" + ",".join(f"n{n}.a" for n in range(101)), "at most 100 names"),
    ("x:1?tls&clients=some", "'clients' as one of none, optional, required"),
    ("x:1?tls&ca=a&ca=b", "'ca' once"), ("x:1?tls&ca", "'ca' once, and with a value"),
    ("x:1?tls&ca=a&clients=none", "'ca' without clients=none"),
    ("udp://x:1?tls", "stream binds only"), ("1x=h:1", "NAME=ADDRESS, a name like 'http' and "),
    ("fd://\N{SUPERSCRIPT TWO}", "fd://N"), ("fd://2147483648", "fd://N"),
    ("x:1?limit=\N{SUPERSCRIPT TWO}", "limit=N"), ("x:1?backlog=2147483648", "backlog=N"),
])
def test_refuses_with_the_text_and_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.text == text


def test_refuses_what_is_no_text() -> None:
    with pytest.raises(AddressError, match="8000: expected"):
        parse_address(8000)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_never_fails_otherwise(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)).place == address.place


@pytest.mark.parametrize(("text", "name", "bare"), [
    ("http=127.0.0.1:80", "http", "127.0.0.1:80"),
    ("my-api.v2=:80", "my-api.v2", "0.0.0.0:80"),
    ("127.0.0.1:80", None, "127.0.0.1:80"),
    ("unix:/a=b.sock", None, "unix:/a=b.sock"),
    ("x=unix:/run/x?mode=600", "x", "unix:/run/x"),
])
def test_splits_the_name_off(text: str, name: str | None, bare: str) -> None:
    found, address = parse_bind(text)
    assert (found, address.bare) == (name, bare)


def test_options_do_not_count_for_the_place() -> None:
    assert parse_address("x:1?limit=5").place == parse_address("x:1").place
    assert parse_address("udp://x:1").place != parse_address("x:1").place


def test_kind_and_path() -> None:
    assert parse_address("udp://x:1").kind == "datagram"
    assert parse_address("x:1").kind == "stream"
    assert parse_address("unix:/x").is_path
    assert not parse_address("unix:@x").is_path
