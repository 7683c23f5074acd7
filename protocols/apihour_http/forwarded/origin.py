"""Where a request came from: what proxies say, walked from the nearest on while they are believed.

Rules:

- A proxy is believed about the hop before it. The first address that is no believed proxy's is
  the client; what is written beyond it is the client's own, and nobody's word.
- What is malformed, or no address (``unknown``, ``_hidden``), ends the walk: the last that is
  known stands.
- Only the headers that were chosen are looked at: proxies pass on those they do not know, so
  one that nobody here sets would be the client's to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from apihour_http.forwarded.hops import elements, entries
from apihour_http.forwarded.proxies import Proxies, node
from apihour_http.head import Fields, is_host

__all__ = ["DEFAULT_HEADERS", "Forwarding", "Origin", "chosen"]

DEFAULT_HEADERS = "x-forwarded-for,x-forwarded-proto"
FOR, PROTO, HOST, PORT = (f"x-forwarded-{name}".encode() for name in
                          ("for", "proto", "host", "port"))
FORWARDED = b"forwarded"
_KNOWN = (FOR, PROTO, HOST, PORT, FORWARDED)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_USUAL = {"http": 80, "": 80, "https": 443}


class Origin(NamedTuple):
    """What believed proxies say of one request; empty, None or 0 where they do not."""

    remote: str | None
    """The client's address."""
    port: int
    scheme: str
    """``http`` or ``https``."""
    host: str
    """As a Host field has it, with the port where it is not the scheme's own."""


def chosen(listed: str) -> frozenset[bytes]:
    """The names of the headers that are believed. Raises ValueError for others."""
    names = frozenset(name for part in listed.lower().split(",") if (name := part.strip().encode()))
    known = ", ".join(name.decode() for name in _KNOWN)
    if names - set(_KNOWN):
        raise ValueError(f"expected names of {known}")
    if FORWARDED in names and len(names) > 1:
        raise ValueError("expected forwarded alone, or others: a proxy sets the one and passes on "
                         "the other as its client wrote it")
    return names


class Forwarding:
    """What the connections of one server ask about proxies."""

    __slots__ = ("_lengths", "_names", "_proxies")

    def __init__(self, proxies: str | Iterable[str], headers: str = DEFAULT_HEADERS) -> None:
        """`proxies` as :class:`Proxies` takes them, `headers` names. Raises ValueError."""
        self._proxies = Proxies(proxies)
        self._names = chosen(headers)
        self._lengths = frozenset(map(len, self._names))

    def believes(self, host: str | None) -> bool:
        """Whether a peer is a proxy that is believed; `host` is None for a unix socket."""
        return bool(self._names) and self._proxies.believe_peer(host)

    def origin(self, fields: Fields) -> Origin | None:
        """What the fields from a believed peer say; None when they say nothing of it."""
        lengths = self._lengths
        found: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            if len(name) in lengths and (lower := name.lower()) in self._names:
                found.setdefault(lower, []).append(value)
        if not found:
            return None
        if FORWARDED in found:
            return self._by_elements(found[FORWARDED])
        return self._by_entries(found, fields)

    def _by_elements(self, lines: list[bytes]) -> Origin:
        """The walk along ``Forwarded`` (RFC 7239)."""
        known = Origin(None, 0, "", "")
        for element in elements(lines):
            hop = node(element.get("for", ""))
            host = element.get("host", "")
            known = Origin(
                known.remote if hop is None else str(hop.address),
                known.port if hop is None else hop.port,
                _SCHEMES.get(element.get("proto", "").lower(), ""),
                host if is_host(host.encode("latin-1")) else "")
            if hop is None or not self._proxies.believe(hop.address):
                break
        return known

    def _by_entries(self, found: dict[bytes, list[bytes]], fields: Fields) -> Origin:
        """The walk along ``X-Forwarded-For``; the others are taken at the same hop."""
        remote, port, hops = None, 0, 0
        for entry in entries(found.get(FOR, [])):
            hops += 1
            hop = node(entry)
            if hop is None:
                break
            remote, port = str(hop.address), hop.port
            if not self._proxies.believe(hop.address):
                break

        def told(name: bytes) -> str:
            there = entries(found.get(name, []))
            return there[min(max(hops, 1), len(there)) - 1] if there else ""

        scheme = _SCHEMES.get(told(PROTO).lower(), "")
        return Origin(remote, port, scheme, _host(told(HOST), told(PORT), scheme, fields))


def _host(host: str, port: str, scheme: str, fields: Fields) -> str:
    """The host that was asked for; empty when it is that of the Host field."""
    if not is_host(host.encode("latin-1")):
        host = ""
    if not (port.isdecimal() and port.isascii() and len(port) <= 5 and 0 < int(port) < 65536):
        return host
    if not host:
        host = next((value.decode("latin-1").strip(" \t") for name, value in fields
                     if name.lower() == b"host"), "")
    name, colon, last = host.rpartition(":")
    if colon and not last.endswith("]"):
        host = name
    return host if int(port) == _USUAL[scheme] or not host else f"{host}:{int(port)}"
