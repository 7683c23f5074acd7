"""The limit: a uvloop protocol that parses nothing and writes a constant.

``python limit_app.py PORT KIND``, KIND one of json, large, close, and accept, which echoes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from common import LARGE, MESSAGE_JSON


def answer(kind: str) -> bytes:
    body, media = {
        "large": (LARGE.encode(), "text/plain; charset=utf-8"),
    }.get(kind, (MESSAGE_JSON, "application/json"))
    close = "Connection: close\r\n" if kind == "close" else ""
    return (
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n{close}\r\n"
    ).encode() + body


class Limit(asyncio.Protocol):
    constant = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.constant)


class Close(Limit):
    def data_received(self, data: bytes) -> None:
        self.transport.write(self.constant)
        self.transport.close()


class Echo(Limit):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main(port: int, kind: str) -> None:
    Limit.constant = answer(kind)
    protocol = {"close": Close, "accept": Echo}.get(kind, Limit)
    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
