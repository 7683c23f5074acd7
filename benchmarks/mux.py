"""One port, four protocols: of many mixed connections, how many went to the wrong one.

How to run (a minute)::

    .venv/bin/python benchmarks/mux.py [--connections 50000] [--rounds 5]

Two workers serve HTTP, SSH's banner, a protocol of one's own and a raw default on one bind. Clients
mix them at random, with bytes of their own; one in five sends its first bytes one by one, one in
five in two pieces. What comes back names who answered, and holds what was sent. The price follows:
CPU time of a connection of the raw protocol through the mux, and on a bind of its own.

Exit status 1 when a single one was mistaken.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter

from _bench import (
    HERE,
    Server,
    arguments,
    cpu_seconds,
    interleave,
    interpreter,
    median,
    ratio,
    table,
)

from apihour.testing import Daemon

LOAD = HERE / "load"
TOGETHER = 64  # connections at a time


def beginning(kind: str, number: int) -> tuple[bytes, bytes, bytes]:
    """What is sent, and what must come back: its beginning, and its end."""
    if kind == "http":
        return (f"GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
                b"HTTP/1.1 200", f"http {number}".encode())
    if kind == "ssh":
        text = b"SSH-2.0-client_%d\r\n" % number
    elif kind == "own":
        text = b"OWN %d\n" % number
    else:
        text = bytes([128 + number % 64]) + b"%d\n" % number
    return text, kind.encode() + b":", text


async def one(port: int, kind: str, number: int, order: random.Random) -> bool:
    """Whether a connection of `kind` was answered by its own server."""
    text, begins, ends = beginning(kind, number)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    manner = order.randrange(5)
    pieces = ([bytes([byte]) for byte in text] if manner == 0 else
              [text[:3], text[3:]] if manner == 1 else [text])
    got = b""
    with contextlib.closing(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)
        while not got.replace(begins, b"").endswith(ends) and (more := await reader.read(4096)):
            got += more
    return got.startswith(begins) and got.replace(begins, b"").endswith(ends)


async def mixed(port: int, connections: int, seed: int) -> Counter[str]:
    """How many of each kind there were, and how many of them were ``mistaken``."""
    order, found, numbers = random.Random(seed), Counter[str](), iter(range(connections))

    async def client() -> None:
        for number in numbers:
            kind = order.choice(("http", "ssh", "own", "raw"))
            found[kind] += 1
            if not await asyncio.wait_for(one(port, kind, number, order), 60):
                found["mistaken"] += 1

    await asyncio.gather(*(client() for _ in range(TOGETHER)))
    return found


async def short(port: int, connections: int) -> None:
    for number in range(connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes([128 + number % 64]))
        await reader.readexactly(5)
        writer.close()


def price(rounds: int) -> str:
    """CPU time of a connection by the mux, and on a bind of its own."""
    command = [sys.executable, "-m", "apihour", "mux_app:Container", "--workers", "1",
               "--no-console", "-b", "edge=127.0.0.1:0", "-b", "raw=127.0.0.1:0"]
    with Server(command, r"raw=127\.0\.0\.1:(\d+)", cwd=LOAD) as server:
        edge = int(next(line for line in server.lines if "edge=" in line).rpartition(":")[2])

        def cost(port: int) -> float:
            before = cpu_seconds(server.pid)
            asyncio.run(short(port, 2000))
            return (cpu_seconds(server.pid) - before) / 2000 * 1e6

        figures = interleave(
            {"mux": lambda: cost(edge), "alone": lambda: cost(server.port)}, rounds)
    return table(["a connection", "CPU µs", "of alone"], [
        [name, f"{median(each):.1f}", f"{ratio(each, figures['alone']):.2f}"]
        for name, each in figures.items()])


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--connections", type=int, default=50_000)
    options = parser.parse_args()
    print(interpreter(), flush=True)
    count = options.connections // (50 if options.quick else 1)
    with Daemon("mux_app:Container", "-b", "edge=127.0.0.1:0", "-b", "raw=127.0.0.1:0",
                cwd=LOAD, workers=2) as daemon:
        found = asyncio.run(mixed(daemon.port("edge"), count, 1))
    print(table(["connections", "http", "ssh", "own", "raw", "mistaken"],
                [[count, *(found[kind] for kind in ("http", "ssh", "own", "raw", "mistaken"))]]))
    print(price(1 if options.quick else options.rounds))
    sys.exit(1 if found["mistaken"] else 0)


if __name__ == "__main__":
    main()
