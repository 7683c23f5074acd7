"""The walk along the hops, while they are believed."""

from __future__ import annotations

import pytest

from apihour_http.forwarded.origin import Forwarding, Origin, chosen

ALL = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-port"


def origin(text: str, headers: str = ALL, proxies: str = "10.0.0.0/8,::1") -> Origin | None:
    """What the header lines of `text` say."""
    fields = [tuple(line.encode("latin-1").split(b": ", 1)) for line in text.split("\n")]
    return Forwarding(proxies, headers).origin(fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("lines", "remote"), [
    ("X-Forwarded-For: 203.0.113.7", "203.0.113.7"),
    ("x-forwarded-for: 203.0.113.7:5555", "203.0.113.7"),
    # Two proxies of ours; the client's own words stand before.
    ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
    ("X-Forwarded-For: 6.6.6.6\nX-Forwarded-For: 203.0.113.7\nX-Forwarded-For: 10.0.0.2",
     "203.0.113.7"),
    ("X-Forwarded-For: 10.0.0.9, 203.0.113.7", "203.0.113.7"),
    # All are ours: the farthest is the client.
    ("X-Forwarded-For: 10.0.0.9, 10.0.0.2", "10.0.0.9"),
    # What is no address ends the walk.
    ("X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
    ("X-Forwarded-For: 6.6.6.6, <script>", None),
    ("X-Forwarded-For: ", None),
    ("X-Forwarded-For: 2001:db8::1, [2001:db8::2]:80", "2001:db8::2"),
    ("X-Forwarded-For: 203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
])
def test_the_client_by_x_forwarded_for(lines: str, remote: str | None) -> None:
    found = origin(lines)
    assert found is not None
    assert found.remote == remote


@pytest.mark.parametrize(("lines", "expected"), [
    ("Forwarded: for=203.0.113.7;proto=https;host=a.example",
     ("203.0.113.7", "https", "a.example")),
    ('Forwarded: for=6.6.6.6;proto=https, for="[2001:db8::7]:1", for=10.0.0.2;proto=http',
     ("2001:db8::7", "", "")),
    ("Forwarded: for=6.6.6.6;host=evil\nForwarded: for=203.0.113.7;host=a.example:81",
     ("203.0.113.7", "", "a.example:81")),
    ("Forwarded: for=6.6.6.6, for=_hidden;proto=https", (None, "https", "")),
    ("Forwarded: for=6.6.6.6, for=unknown, for=10.0.0.2", ("10.0.0.2", "", "")),
    ("Forwarded: for=6.6.6.6, by=10.0.0.1", (None, "", "")),
    ("Forwarded: for=203.0.113.7;proto=gopher;host=\"a b\"", ("203.0.113.7", "", "")),
    ("Forwarded: for=6.6.6.6, ][", (None, "", "")),
])
def test_the_walk_along_forwarded(lines: str, expected: tuple[str | None, str, str]) -> None:
    found = origin(lines, "forwarded")
    assert found is not None
    assert (found.remote, found.scheme, found.host) == expected


@pytest.mark.parametrize(("lines", "scheme"), [
    ("X-Forwarded-Proto: HTTPS", "https"), ("X-Forwarded-Proto: wss", "https"),
    ("X-Forwarded-Proto: javascript", ""),
    # Of the hop that the client is at: the client's own stands before it.
    ("X-Forwarded-For: 203.0.113.7\nX-Forwarded-Proto: https, http", "http"),
    ("X-Forwarded-For: 203.0.113.7, 10.0.0.2\nX-Forwarded-Proto: https, http", "https"),
    ("X-Forwarded-For: 203.0.113.7, 10.0.0.2\nX-Forwarded-Proto: https", "https"),
])
def test_the_scheme(lines: str, scheme: str) -> None:
    found = origin(lines)
    assert found is not None
    assert found.scheme == scheme


@pytest.mark.parametrize(("lines", "host"), [
    ("Host: in\nX-Forwarded-Host: out.example", "out.example"),
    ("Host: in\nX-Forwarded-Host: evil, out.example", "out.example"),
    ("Host: in\nX-Forwarded-Host: a b", ""),
    ("Host: in\nX-Forwarded-Port: 8443", "in:8443"),
    ("Host: in:8000\nX-Forwarded-Port: 443\nX-Forwarded-Proto: https", "in"),
    ("Host: in\nX-Forwarded-Host: out:1\nX-Forwarded-Port: 2", "out:2"),
    ("Host: [::1]:8000\nX-Forwarded-Port: 81", "[::1]:81"),
    ("Host: [::1]\nX-Forwarded-Port: 81", "[::1]:81"),
    ("Host: in\nX-Forwarded-Port: 0", ""), ("Host: in\nX-Forwarded-Port: -1", ""),
    ("Host: in\nX-Forwarded-Port: ²", ""), ("X-Forwarded-Port: 81", ""),
])
def test_the_host(lines: str, host: str) -> None:
    found = origin(lines)
    assert found is not None
    assert found.host == host


def test_only_what_was_chosen_is_looked_at() -> None:
    lines = "Host: in\nX-Forwarded-Host: evil\nForwarded: for=6.6.6.6;host=evil"
    assert origin(lines, "x-forwarded-for,x-forwarded-proto") is None
    assert origin("X-Forwarded-For: 6.6.6.6", "forwarded") is None
    assert origin("X-Forwarded-Foo: 6.6.6.6\nAccept: */*") is None


@pytest.mark.parametrize(("headers", "message"), [
    ("x-real-ip", "expected names of x-forwarded-for, "),
    ("forwarded,x-forwarded-for", "expected forwarded alone, or others"),
])
def test_headers_that_cannot_be_chosen(headers: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        chosen(headers)


def test_without_headers_nobody_is_believed() -> None:
    assert not Forwarding("*", "").believes("127.0.0.1")
    assert Forwarding("*").believes("127.0.0.1")
