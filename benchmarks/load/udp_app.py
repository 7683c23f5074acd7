"""Answers datagrams with its process's number."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import apihour


class Named(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.name = str(os.getpid()).encode()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(self.name, address)


class Container(apihour.Container):
    binds = {"udp": "udp://127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"udp": Named}
