"""Load for an echo or HTTP server where wrk is missing: one message in flight a connection.

``python pump.py echo|http PORT CONNECTIONS SECONDS`` prints the answers in a second. It costs
as much CPU as the server it loads, so compare CPU time rather than rates with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

MESSAGES = {
    "echo": b"abcdefghijklmnopqrstuvwxyz" * 2,
    "http": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


class Pump(asyncio.Protocol):
    """Sends the message again whenever an answer as long as the first has come."""

    answers = 0

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.size = len(message) if not message.startswith(b"GET") else 0
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.size = self.size or len(data)
        self.received += len(data)
        if self.received >= self.size:
            self.received -= self.size
            self.answers += 1
            self.transport.write(self.message)


async def main(kind: str, port: int, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    pumps = []
    for _ in range(connections):
        _, pump = await loop.create_connection(lambda: Pump(MESSAGES[kind]), "127.0.0.1", port)
        pumps.append(pump)
    before = sum(pump.answers for pump in pumps)
    began = loop.time()
    await asyncio.sleep(seconds)
    print((sum(pump.answers for pump in pumps) - before) / (loop.time() - began))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
