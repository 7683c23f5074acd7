"""What floods of HTTP/2 do to the other clients of one worker.

How to run (half a minute)::

    .venv/bin/python benchmarks/http2_hostile.py [--quick]

One server process on CPU 1. On CPU 0 eight clients send one flood for five seconds, each connecting
anew whenever it is thrown out, while another asks by HTTP/1 again and again. What counts is that
all of its answers come, and how long they take beside those without a flood; the memory is the
server's after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from _bench import (
    HERE,
    LOAD_CPU,
    Server,
    arguments,
    cpu_seconds,
    interpreter,
    memory,
    percentile,
    pinned,
    python,
    table,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BLOCK = b"\x82\x86\x41\x01x\x04\x08/items/1"  # GET http x /items/1
CLIENTS = 8


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + bytes((kind, flags)) + struct.pack(
        ">L", number) + payload


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset": lambda n: frame(1, 5, n, BLOCK) + frame(3, 0, n, b"\0\0\0\x08"),
    "CONTINUATION": lambda n: frame(1, 1, n, BLOCK) if n == 1 else frame(9, 0, 1, b"\0" * 100),
    "SETTINGS": lambda n: frame(4, 0, 0, b"\0\x09\0\0\0\0" * 50),
    "PING": lambda n: frame(6, 0, 0, bytes(8)),
    "HPACK bomb": lambda n: frame(1, 5, n, BLOCK + (
        b"\x40\x01a\x7f\xbd\x1d" + b"x" * 3900 if n == 1 else b"\xbf" * 500)),
    "empty DATA": lambda n: frame(1, 4, n, BLOCK) if n == 1 else frame(0, 0, 1),
}


async def flood(port: int, make: Callable[[int], bytes], until: float, thrown: list[int]) -> None:
    """Send it, connecting anew whenever the server ends the connection."""
    burst = PREFACE + frame(4, 0, 0) + b"".join(make(n) for n in range(1, 4001, 2))
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, until - time.perf_counter())):
                with contextlib.suppress(OSError):
                    writer.write(burst)
                    await reader.read()  # to its end
                thrown.append(1)
        writer.close()


async def attack(port: int, name: str, seconds: float) -> int:
    """Flood with all clients; how many connections the server has ended."""
    thrown: list[int] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*[flood(port, FLOODS[name], until, thrown) for _ in range(CLIENTS)])
    return len(thrown)


async def polite(port: int, until: float) -> tuple[list[float], int]:
    """Seconds that each answer took, and how many did not come."""
    took, failed = [], 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(b"GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            async with asyncio.timeout(10):
                await reader.readuntil(b"}")
            took.append(time.perf_counter() - began)
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            failed += 1
            break
        await asyncio.sleep(0.002)
    writer.close()
    return took, failed


def measure(server: Server, name: str, seconds: float) -> tuple[list[float], int, int, float]:
    before = cpu_seconds(server.pid)
    attacker = subprocess.Popen(
        [*pinned(LOAD_CPU), *python(__file__, "--flood", name, str(server.port), str(seconds))],
        stdout=subprocess.PIPE, text=True) if name in FLOODS else None
    took, failed = asyncio.run(polite(server.port, time.perf_counter() + seconds))
    thrown = int(attacker.communicate(timeout=seconds + 30)[0]) if attacker is not None else 0
    return took, failed, thrown, (cpu_seconds(server.pid) - before) / seconds


def main() -> int:
    if sys.argv[1:2] == ["--flood"]:
        print(asyncio.run(attack(int(sys.argv[3]), sys.argv[2], float(sys.argv[4]))))
        return 0
    options = arguments(__doc__).parse_args()
    seconds = 0.5 if options.quick else 5.0
    print(interpreter())
    rows = []
    with Server(python(Path(HERE) / "load" / "http2_app.py", "direct")) as server:
        for name in ("(none)", *FLOODS):
            took, failed, thrown, cpu = measure(server, name, seconds)
            rows.append([name, thrown, len(took), failed, f"{percentile(took, 50) * 1e3:.1f}",
                         f"{percentile(took, 99) * 1e3:.1f}", f"{cpu:.2f}",
                         f"{memory(server.pid)['rss']:.0f}"])
    print(table(["flood", "thrown out", "answers", "lost", "p50 ms", "p99 ms", "CPUs", "MB"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
