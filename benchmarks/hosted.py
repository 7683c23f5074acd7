"""What an operation costs a server of a library, hosted here and by its own runner.

How to run (two minutes)::

    .venv/bin/python benchmarks/hosted.py [--rounds 7] [--libraries websockets,aiosmtpd]

One process each, on uvloop both, pinned to one CPU, and measured in turns: websockets (a message
of 100 bytes there and back on one connection, and a connection with one such message), aiosmtpd (a
mail on a connection of its own), telnetlib3 (a name asked and greeted), asyncssh (SFTP: a login,
and a file of 64 KB read). The figure is CPU time of the server; ``of own`` the median of the own
runner's through it in the same round: 1 is as good, more is better.
"""

from __future__ import annotations

import asyncio
import os
import smtplib
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
from _bench import (
    HERE,
    LOAD_CPU,
    Server,
    arguments,
    cpu_seconds,
    interleave,
    interpreter,
    median,
    table,
)
from websockets.sync.client import connect

LOAD = HERE / "load"
SIZE = 1 << 16  # bytes of the file


def messages(port: int, count: int) -> None:
    text = "x" * 100
    with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
        for _ in range(count):
            client.send(text)
            assert client.recv() == text


def meetings(port: int, count: int) -> None:
    for _ in range(count):
        messages(port, 1)


def mails(port: int, count: int) -> None:
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.sendmail("a@example", ["b@example"], "Subject: x\n\nHello\n" * 10)


def greeting(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        got = b""
        while b"name? " not in got:
            got += sock.recv(1000)
        sock.sendall(b"Ann\r\n")
        while data := sock.recv(1000):
            got += data
        assert b"Hello, Ann!" in got


def greetings(port: int, count: int) -> None:
    # Several at once: its server waits ten milliseconds for what a client can.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(greeting, [port] * count))


def files(port: int, count: int) -> None:
    async def main() -> None:
        for _ in range(count):
            async with asyncssh.connect(
                "127.0.0.1", port, known_hosts=None, username="x", client_keys=None, config=None,
            ) as client, client.start_sftp_client() as sftp, sftp.open("file", "rb") as file:
                assert len(await file.read()) == SIZE

    asyncio.run(main())


Load = Callable[[int, int], None]
LOADS: dict[str, tuple[tuple[str, Load, int], ...]] = {
    "websockets": (("message", messages, 5000), ("connection", meetings, 400)),
    "aiosmtpd": (("mail", mails, 250),),
    "telnetlib3": (("greeting", greetings, 400),),
    "asyncssh": (("login and file", files, 40),),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def servers(name: str, directory: Path) -> dict[str, Server]:
    first = free_port()
    # At the level that a program has that sets none: libraries log each of their steps below it.
    hosted = [sys.executable, "-m", "apihour", "hosted_app:Container", "--workers", "1",
              "--no-console", "--pythonpath", LOAD, "--log-level", "warning",
              "-b", f"{name}=127.0.0.1:{first}"]
    port = free_port()
    own = [sys.executable, LOAD / "hosted_app.py", name, port]
    return {
        "apihour": Server(hosted, cwd=directory, port=first, environment={"HOSTED": name}),
        "own": Server(own, cwd=directory, port=port),
    }


def measure(server: Server, load: Load, count: int) -> float:
    before = cpu_seconds(server.pid)
    load(server.port, count)
    return (cpu_seconds(server.pid) - before) / count * 1e6


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--libraries", default=",".join(LOADS))
    options = parser.parse_args()
    print(interpreter(), flush=True)
    if LOAD_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CPU})
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "file").write_bytes(bytes(SIZE))
        for name in options.libraries.split(","):
            made = servers(name, Path(directory))
            with made["apihour"], made["own"]:
                for what, load, count in LOADS[name]:
                    figures = interleave({
                        which: lambda server=server, load=load, count=count: measure(
                            server, load, count // 10 if options.quick else count)
                        for which, server in made.items()}, 1 if options.quick else options.rounds)
                    ours, theirs = figures["apihour"], figures["own"]
                    rows.append([f"{name}, {what}", f"{median(ours):.0f}", f"{median(theirs):.0f}",
                                 f"{median(b / a for a, b in zip(ours, theirs, strict=True)):.2f}"])
    print(table(["operation", "apihour, CPU µs", "own, CPU µs", "of own"], rows))


if __name__ == "__main__":
    main()
