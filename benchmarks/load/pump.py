"""Load for an echo or HTTP server where wrk is missing: one message in flight a connection.

``python pump.py echo|http PORT CONNECTIONS SECONDS`` prints the answers in a second. It costs
as much CPU as the server it loads, so compare CPU time rather than rates with it. No request
of HTTP repeats the one before it: they are those of the case (a) of ``http.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

# Last in the path: http.py there must not stand for Python's package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from http_requests import distinct

ECHOED = b"abcdefghijklmnopqrstuvwxyz" * 2


class Pump(asyncio.Protocol):
    """Sends the next message whenever an answer as long as the first has come."""

    answers = 0

    def __init__(self, messages: Iterator[bytes], size: int) -> None:
        self.messages = messages
        self.size = size  # of an answer; 0: as the first says
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class
        self.transport.write(next(self.messages))

    def data_received(self, data: bytes) -> None:
        self.size = self.size or len(data)
        self.received += len(data)
        if self.received >= self.size:
            self.received -= self.size
            self.answers += 1
            self.transport.write(next(self.messages))


async def main(kind: str, port: int, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    is_echo = kind == "echo"
    messages = itertools.cycle([ECHOED] if is_echo else [sent.raw for sent in distinct("query")])
    size = len(ECHOED) if is_echo else 0
    pumps = []
    for _ in range(connections):
        _, pump = await loop.create_connection(lambda: Pump(messages, size), "127.0.0.1", port)
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
