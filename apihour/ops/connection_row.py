"""One connection of a worker as the shell shows it.

Byte counts are asked of the kernel (TCP_INFO, tcp(7)) when somebody looks.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from apihour.bind.peers import format_peer
from apihour.ops.activity import activity_of
from apihour.ops.annotations import Address, Bytes, Seconds

__all__ = ["ConnectionRow", "byte_counts", "connection_row"]

# struct tcp_info of linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received stand at 120.
_TCP_INFO_BYTES = struct.Struct("=120xQQ")


@dataclass(frozen=True)
class ConnectionRow:
    """One open connection; `state` is a word of its protocol, `path` what it asks for now.

    `request_age` is how long the request under way has taken so far, `route` what answers it,
    `client` who sent it: behind a proxy that is not the peer; `via` the proxy that named the peer.
    """

    id: str
    worker: str
    server: str
    peer: Address
    state: str
    request_age: Seconds | None
    path: str
    age: Seconds
    requests: int
    bytes_in: Bytes
    bytes_out: Bytes
    protocol: str
    tls: str
    route: str
    client: Address = ""
    via: Address = ""


def connection_row(conn: Any, worker: str) -> ConnectionRow:
    """What is known now of a row in a worker's table; called in any thread."""
    received, sent = byte_counts(conn.sock)
    doing = activity_of(conn.transport)
    return ConnectionRow(
        conn.table.label(conn.id), worker, conn.server, conn.peer, doing.state or conn.state,
        doing.age, doing.path, time.monotonic() - conn.accepted_at, conn.requests, received, sent,
        conn.protocol, conn.tls.version if conn.tls is not None else "", doing.route, doing.client,
        format_peer(conn.proxied.proxy) if conn.proxied is not None else "")


def byte_counts(sock: Any) -> tuple[int, int]:
    """Bytes received and bytes acknowledged by the peer; -1 where the kernel keeps none."""
    try:
        if sock.family == socket.AF_UNIX or sock.fileno() < 0:
            return -1, -1
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        sent, received = _TCP_INFO_BYTES.unpack_from(info)
    except (OSError, struct.error, AttributeError):
        return -1, -1
    return received, sent
