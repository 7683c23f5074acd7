"""Echoes of a WebSocket: ``ws_echo.py PORT CONNECTIONS SECONDS``; tells them as wrk does.

Each connection has one message of five letters under way, as HttpArena's echo-ws wants it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

UPGRADE = (b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
MASK = b"\x12\x34\x56\x78"
SENT = b"\x81\x85" + MASK + bytes(a ^ b for a, b in zip(b"hello", MASK + MASK, strict=False))
ECHO = b"\x81\x05hello"


class Echoed(asyncio.Protocol):
    """Sends the next message when the last has come back."""

    waits: list[float] = []
    errors: list[str] = []
    ends = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.got = b""
        self.is_open = False
        self.transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if not self.is_open:
            head, end, self.got = self.got.partition(b"\r\n\r\n")
            if not end:
                self.got = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.fail(f"refused: {head[:80]!r}")
                return
            self.is_open = True
            self.send()
        elif len(self.got) >= len(ECHO):
            if self.got != ECHO:
                self.fail(f"no echo: {self.got[:80]!r}")
                return
            self.got = b""
            self.waits.append(time.perf_counter() - self.sent)
            if not self.ends:
                self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(SENT)

    def fail(self, what: str) -> None:
        self.errors.append(what)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ends:
            self.errors.append(f"closed: {error}")


async def main(port: int, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(Echoed, "127.0.0.1", port)
    Echoed.waits.clear()
    await asyncio.sleep(seconds)
    waits, Echoed.ends = sorted(Echoed.waits), True
    print(f"  {len(waits)} requests in {seconds:.2f}s")
    print(f"  99% {waits[len(waits) * 99 // 100] * 1e3 if waits else 0:.2f}ms")
    print(f"Requests/sec: {len(waits) / seconds:.2f}")
    if Echoed.errors:
        print(f"Socket errors: {len(Echoed.errors)}, the first {Echoed.errors[0]}")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
