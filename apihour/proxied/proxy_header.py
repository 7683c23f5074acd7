"""The header of the PROXY protocol, versions 1 and 2: parsing only, nothing is read here.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (sections in brackets).

Rules:

- Bytes are taken as they come, and never one behind the header: those are the protocol's.
- What is no header of either version is an error at its first byte; nothing is guessed.
- Of the additional values of version 2 [2.2] those are kept that somebody here reads; what is
  unknown is skipped, what is cut is an error.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["ProxyError", "ProxyFacts", "ProxyHeader"]

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V1_MOST = 107  # bytes with CRLF [2.1]
_V2_HEAD = 16
_V2_MOST = 4096  # bytes behind its head; 216 are what a receiver must take [2.2]
_ADDRESSES = {0x11: (4, "TCP over IPv4"), 0x21: (16, "TCP over IPv6")}
_UNIX = 0x31
_UNIX_SIZE = 216
_ALPN, _AUTHORITY, _SSL = 0x01, 0x02, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CERTIFICATE = 0x21, 0x22, 0x28


class ProxyError(ValueError):
    """What came is no header; its text says what was expected."""


@dataclass(frozen=True)
class ProxyFacts:
    """What a proxy says of a connection that it passes on.

    `source` and `destination` are addresses as of ``getpeername()``, None where it speaks for
    itself (its health checks) or does not know. `tls` is the version of TLS that it ended, empty
    for none; `common_name` that of a client's certificate which it verified, `certificate` all of
    it in DER, where the proxy sends it; `proxy` its own address.
    """

    source: Any = None
    destination: Any = None
    alpn: str = ""
    server_name: str = ""
    tls: str = ""
    common_name: str = ""
    certificate: bytes = b""
    proxy: Any = None


class ProxyHeader:
    """Reads one header; `facts` is None until it is whole."""

    def __init__(self) -> None:
        self.facts: ProxyFacts | None = None
        self._got = bytearray()

    def feed(self, data: bytes) -> int:
        """Take the next bytes; returns how many of them are the header's. Raises ProxyError."""
        took = 0
        while took < len(data) and self.facts is None:
            piece = data[took:took + self._wanted(data[took:])]
            self._got += piece
            took += len(piece)
            self._look()
        return took

    def _wanted(self, data: bytes) -> int:
        """How many bytes are the header's for sure, if so many are there."""
        got = self._got
        if got[:1] == _V2[:1]:
            if len(got) < _V2_HEAD:
                return _V2_HEAD - len(got)
            return _V2_HEAD + int.from_bytes(got[14:16], "big") - len(got)
        end = data.find(b"\n") + 1
        return end or max(1, _V1_MOST - len(got))

    def _look(self) -> None:
        got = bytes(self._got)
        if got.startswith(_V2[:1]):
            self._look_v2(got)
        elif got[:len(_V1)] != _V1[:len(got)]:
            raise ProxyError(f"{got[:16]!r}: expected a header of the PROXY protocol")
        elif got.endswith(b"\n"):
            self.facts = _parse_v1(got)
        elif len(got) >= _V1_MOST:
            raise ProxyError(f"a line of more than {_V1_MOST} bytes: expected PROXY … CRLF")

    def _look_v2(self, got: bytes) -> None:
        if got[:12] != _V2[:len(got)]:
            raise ProxyError(f"{got[:16]!r}: expected a header of the PROXY protocol")
        if len(got) < _V2_HEAD:
            return
        size = int.from_bytes(got[14:16], "big")
        if size > _V2_MOST:
            raise ProxyError(f"a header of {size} bytes: expected at most {_V2_MOST}")
        if got[12] >> 4 != 2 or got[12] & 15 > 1:
            raise ProxyError(f"version and command 0x{got[12]:02x}: expected 0x20 or 0x21")
        if len(got) == _V2_HEAD + size:
            self.facts = _parse_v2(got)


def _parse_v1(line: bytes) -> ProxyFacts:
    """[2.1] Raises ProxyError."""
    words = line[:-2].split(b" ")
    if not line.endswith(b"\r\n"):
        raise ProxyError(f"{line[:60]!r}: expected CRLF at the end")
    if words[1] == b"UNKNOWN":
        return ProxyFacts()
    version = {b"TCP4": 4, b"TCP6": 6}.get(words[1])
    if version is None or len(words) != 6:
        raise ProxyError(f"{line[:60]!r}: expected TCP4 or TCP6, two addresses and two ports")
    hosts = [_host(word, version) for word in words[2:4]]
    ports = [_port(word) for word in words[4:]]
    return ProxyFacts(*(_name(host, port) for host, port in zip(hosts, ports, strict=True)))


def _host(word: bytes, version: int) -> str:
    try:
        found = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:
        raise ProxyError(f"{word!r}: expected an address") from None
    if found.version != version:
        raise ProxyError(f"{word!r}: expected an address of IPv{version}")
    return str(found)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise ProxyError(f"{word!r}: expected a port")
    return int(word)


def _name(host: str, port: int) -> Any:
    return (host, port, 0, 0) if ":" in host else (host, port)


def _parse_v2(got: bytes) -> ProxyFacts:
    """[2.2] Raises ProxyError."""
    family, body = got[13], got[_V2_HEAD:]
    if not got[12] & 1:  # LOCAL: the proxy's own connection
        return ProxyFacts()
    source: Any = None
    destination: Any = None
    if family in _ADDRESSES:
        size, what = _ADDRESSES[family]
        end = 2 * size + 4
        if len(body) < end:
            raise ProxyError(f"{len(body)} bytes: expected addresses and ports of {what}")
        hosts = [str(ipaddress.ip_address(body[at:at + size])) for at in (0, size)]
        ports = struct.unpack("!HH", body[2 * size:end])
        source, destination = (_name(*pair) for pair in zip(hosts, ports, strict=True))
    elif family == _UNIX:
        end = _UNIX_SIZE
        if len(body) < end:
            raise ProxyError(f"{len(body)} bytes: expected two addresses of unix sockets")
    else:  # unspecified, and datagrams: the receiver uses the connection's own addresses
        return ProxyFacts()
    return ProxyFacts(source, destination, **_values(dict(_split(body[end:]))))


def _split(data: bytes) -> Iterable[tuple[int, bytes]]:
    """The additional values: pairs of type and value. Raises ProxyError when one is cut."""
    while data:
        if len(data) < 3 or len(data) < (end := 3 + int.from_bytes(data[1:3], "big")):
            raise ProxyError("an additional value that is cut")
        yield data[0], data[3:end]
        data = data[end:]


def _values(found: dict[int, bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {"alpn": _text(found.get(_ALPN, b"")),
              "server_name": _text(found.get(_AUTHORITY, b""))}
    ssl = found.get(_SSL, b"")
    if len(ssl) >= 5 and ssl[0] & 1:  # the client used TLS
        inner = dict(_split(ssl[5:]))
        values["tls"] = _text(inner.get(_SSL_VERSION, b"")) or "TLS"
        if not int.from_bytes(ssl[1:5], "big"):  # and its certificate was verified
            values["common_name"] = _text(inner.get(_SSL_CN, b""))
            values["certificate"] = inner.get(_SSL_CERTIFICATE, b"")
    return values


def _text(value: bytes) -> str:
    return value[:255].decode("utf-8", "replace")
