"""The header of the PROXY protocol that goes ahead of a connection's bytes, versions 1 and 2.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (sections in brackets).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

__all__ = ["local_header", "proxy_header"]

_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
_ALPN, _AUTHORITY, _SSL, _SSL_VERSION, _SSL_CN = 0x01, 0x02, 0x20, 0x21, 0x22
_CLIENT_SSL, _CLIENT_CERT = 0x01, 0x02 | 0x04  # a certificate, of this connection


def local_header(version: int) -> bytes:
    """What a connection of our own, a check, begins with."""
    return b"PROXY UNKNOWN\r\n" if version == 1 else _V2 + bytes((_LOCAL, 0, 0, 0))


def proxy_header(version: int, source: Any, destination: Any, conn: Any = None) -> bytes:
    """What a client's connection begins with.

    `source` and `destination` are addresses as of ``getpeername()``; `conn` is the host's row of
    the connection, whose TLS version 2 tells of. What has no addresses is told as unknown.
    """
    ends = _ends(source, destination)
    if version == 1:
        if ends is None:
            return b"PROXY UNKNOWN\r\n"
        family = 6 if ends[0].version == 6 else 4
        return (f"PROXY TCP{family} {ends[0]} {ends[1]} {source[1]} {destination[1]}\r\n"
                ).encode()
    values = _values(conn)
    if ends is None:
        return _V2 + struct.pack("!BBH", _PROXY, 0, len(values)) + values
    body: bytes = (ends[0].packed + ends[1].packed
            + struct.pack("!HH", source[1], destination[1]) + values)
    return _V2 + struct.pack("!BBH", _PROXY, 0x21 if ends[0].version == 6 else 0x11, len(body)
                             ) + body


def _ends(source: Any, destination: Any) -> Any:
    """Both addresses, of one version; None for what has none."""
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return None
    ends = [ipaddress.ip_address(str(one[0]).partition("%")[0]) for one in (source, destination)]
    plain = [getattr(one, "ipv4_mapped", None) or one for one in ends]
    if plain[0].version == plain[1].version:
        return plain
    return [one if one.version == 6 else ipaddress.IPv6Address(f"::ffff:{one}") for one in ends]


def _values(conn: Any) -> bytes:
    """[2.2.1 to 2.2.6] What was agreed on with the client by TLS, or told of it by a proxy."""
    tls, told = getattr(conn, "tls", None), getattr(conn, "proxied", None)
    alpn = getattr(conn, "alpn", None) or getattr(told, "alpn", "")
    server_name = getattr(told, "server_name", "")
    found = [_value(kind, text.encode()) for kind, text in (
        (_ALPN, alpn), (_AUTHORITY, server_name)) if text]
    version = tls.version if tls is not None else getattr(told, "tls", "")
    if version:
        name = _common_name(tls.peer_certificate) if tls else getattr(told, "common_name", "")
        inner = _value(_SSL_VERSION, version.encode())
        if name:
            inner += _value(_SSL_CN, name.encode())
        flags = _CLIENT_SSL | (_CLIENT_CERT if name else 0)
        # Verified is 0; without a certificate there is nothing that was.
        found.append(_value(_SSL, struct.pack("!BI", flags, 0 if name else 1) + inner))
    return b"".join(found)


def _value(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value[:255])) + value[:255]


def _common_name(certificate: Any) -> str:
    """The subject's, of a certificate as ``SSLSocket.getpeercert()`` has it."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
