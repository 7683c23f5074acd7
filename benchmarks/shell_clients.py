"""The clients of ``benchmarks/shell.py``, each a process of its own that prints JSON.

- ``meter PORT SECONDS RATE``: HTTP requests on one connection at a fixed rhythm; a request
  that had to wait for the one before counts from when it was due.
- ``flood PORT CLIENTS SECONDS``: clients that begin logins with a key nobody knows.
- ``connect PORT USER KEY CLIENTS SECONDS``: logins by key, one after the other per client.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from _bench import percentile

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_WARM = 50  # requests before the first that counts
# What apihour and sshd both offer: else the two would be asked for different work.
ALGORITHMS: dict[str, Any] = {
    "kex_algs": ["curve25519-sha256"], "encryption_algs": ["aes128-gcm@openssh.com"],
    "server_host_key_algs": ["ssh-ed25519"], "compression_algs": ["none"],
}


def put_first(pid: int) -> None:
    """Let every thread of a process run before all that is not real-time, if that is allowed."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(1))


def meter(port: str, seconds: str, rate: str) -> dict[str, float]:
    """Latencies in milliseconds."""
    put_first(os.getpid())
    gc.disable()
    found = []
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_WARM):
            _ask(sock)
        began = time.perf_counter()
        for number in range(int(float(seconds) * float(rate))):
            due = began + number / float(rate)
            now = time.perf_counter()
            if now < due:
                time.sleep(due - now)
                due = time.perf_counter()
            _ask(sock)
            found.append((time.perf_counter() - due) * 1000)
    return {"p50": percentile(found, 50), "p99": percentile(found, 99), "max": max(found),
            "count": len(found)}


def _ask(sock: socket.socket) -> None:
    sock.sendall(REQUEST)
    if b" 200 " not in sock.recv(65536):
        raise RuntimeError("expected a response with status 200")


async def flood(port: str, clients: str, seconds: str) -> dict[str, float]:
    """How many were begun, and how many of them got as far as the key exchange."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    end = time.monotonic() + float(seconds)
    counts = {"begun": 0, "exchanged": 0}

    async def client() -> None:
        while time.monotonic() < end:
            counts["begun"] += 1
            try:
                await asyncssh.connect(
                    "127.0.0.1", int(port), username="admin", client_keys=[key], config=None,
                    known_hosts=None, agent_path=None, login_timeout=5, **ALGORITHMS)
            except asyncssh.PermissionDenied:
                counts["exchanged"] += 1
            except (asyncssh.Error, OSError):
                await asyncio.sleep(0.005)

    await asyncio.gather(*(client() for _ in range(int(clients))))
    return dict(counts)


async def connect(
    port: str, user: str, key: str, clients: str, seconds: str
) -> dict[str, float]:
    """Logins in a second, and the share of one CPU that this side of them took."""
    import asyncssh

    private = asyncssh.read_private_key(key)
    count = 0

    async def once() -> None:
        nonlocal count
        connection = await asyncssh.connect(
            "127.0.0.1", int(port), username=user, client_keys=[private], config=None,
            known_hosts=None, agent_path=None, **ALGORITHMS)
        count += 1
        connection.close()
        await connection.wait_closed()

    async def client(end: float) -> None:
        while time.monotonic() < end:
            await once()

    await once()
    count, began, used = 0, time.monotonic(), time.process_time()
    await asyncio.gather(*(client(began + float(seconds)) for _ in range(int(clients))))
    taken = time.monotonic() - began
    return {"rate": count / taken, "cpu": (time.process_time() - used) / taken}


def main() -> None:
    name, *words = sys.argv[1:]
    if name == "meter":
        result = meter(*words)
    else:
        try:
            import uvloop
            run = uvloop.run
        except ImportError:
            run = asyncio.run
        result = run({"flood": flood, "connect": connect}[name](*words))
    print(json.dumps(result))


SCRIPT = Path(__file__).resolve()

if __name__ == "__main__":
    main()
