"""A DNS server small enough to read: A and AAAA records of a dict, NXDOMAIN for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator
from typing import Any

_HEADER = struct.Struct("!6H")  # RFC 1035 section 4.1.1
_TYPES = {1: 4, 28: 16}  # A and AAAA, by the bytes of their addresses


class DNSServer(asyncio.DatagramProtocol):
    """``names`` maps a name to its address; ``asked`` are the names that were looked up."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # uvloop's is no asyncio.DatagramTransport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self._answer(data), addr)

    def _answer(self, query: bytes) -> bytes:
        number = _HEADER.unpack_from(query)[0]
        position, labels = _HEADER.size, []
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode())
            position += 1 + length
        question = query[_HEADER.size : position + 5]
        (kind,) = struct.unpack_from("!H", query, position + 1)
        name = ".".join(labels).lower()
        self.asked.append(name)
        address = self.names.get(name)
        packed = ipaddress.ip_address(address).packed if address else b""
        found = len(packed) == _TYPES.get(kind, 0) != 0
        code = 0 if name in self.names else 3  # NXDOMAIN
        head = _HEADER.pack(number, 0x8580 | code, 1, int(found), 0, 0)
        if not found:
            return head + question
        # 0xC00C points back to the name of the question (section 4.1.4).
        return head + question + struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(packed)) + packed


@contextlib.asynccontextmanager
async def dns_server(names: dict[str, str]) -> AsyncIterator[DNSServer]:
    """Serve on a port of its own."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DNSServer(names), local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
