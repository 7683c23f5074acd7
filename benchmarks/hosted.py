"""What an operation costs a server of a library, hosted here and by its own runner.

How to run (ten minutes)::

    .venv/bin/python benchmarks/hosted.py [--rounds 7] [--libraries websockets,aiosmtpd]

One process each, on uvloop both, pinned to one CPU, and measured in turns. Of each library two
rows: what goes there and back on a connection that stands (a message of 100 bytes, a mail, a line
of telnet, a file of 64 KB by SFTP), and a connection of its own with one of them. The figure is CPU
time of the server; ``of own`` the median of the own runner's through it in the same round: 1 is as
good, more is better. ``handed, of own`` is the floor of that: a loop of ten lines that accepts and
hands the descriptor to uvloop, with nothing of a host.
"""

from __future__ import annotations

import asyncio
import contextlib
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
    free_port,
    interleave,
    interpreter,
    median,
    ratio,
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
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for _ in range(count):
            client.sendmail("a@example", ["b@example"], "Subject: x\n\nHello\n" * 10)


def senders(port: int, count: int) -> None:
    for _ in range(count):
        mails(port, 1)


def lines(port: int, count: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rwb") as file:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            file.write(b"Ann\r\n")
            file.flush()
            while b"Hello, Ann!" not in file.readline():  # what it negotiates comes first
                pass
        file.write(b"bye\r\n")
        file.flush()
        file.read()


def greetings(port: int, count: int) -> None:
    # Several at once: its server waits ten milliseconds for what a client can.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lines, [port] * count, [1] * count))


def files(port: int, count: int) -> None:
    async def main() -> None:
        async with asyncssh.connect(
            "127.0.0.1", port, known_hosts=None, username="x", client_keys=None, config=None,
        ) as client, client.start_sftp_client() as sftp:
            for _ in range(count):
                async with sftp.open("file", "rb") as file:
                    assert len(await file.read()) == SIZE

    asyncio.run(main())


def logins(port: int, count: int) -> None:
    for _ in range(count):
        files(port, 1)


Load = Callable[[int, int], None]
# Connections enough for several full garbage collections: what telnetlib3 and websockets leave
# makes one of 160 ms in every thousand, and with fewer a round has one or none.
LOADS: dict[str, tuple[tuple[str, Load, int], ...]] = {
    "websockets": (("message", messages, 5000), ("connection", meetings, 2000)),
    "aiosmtpd": (("mail", mails, 250), ("connection", senders, 500)),
    "telnetlib3": (("line", lines, 2000), ("connection", greetings, 2500)),
    "asyncssh": (("file", files, 200), ("connection", logins, 40)),
}


def servers(name: str, directory: Path) -> dict[str, Server]:
    first = free_port()
    # At the level that a program has that sets none: libraries log each of their steps below it.
    hosted = [sys.executable, "-m", "apihour", "hosted_app:Container", "--workers", "1",
              "--no-console", "--pythonpath", LOAD, "--log-level", "warning",
              "-b", f"{name}=127.0.0.1:{first}"]
    made = {"apihour": Server(hosted, cwd=directory, port=first, environment={"HOSTED": name})}
    for way in ("own", "handed"):
        port = free_port()
        made[way] = Server([sys.executable, LOAD / "hosted_app.py", name, str(port), way],
                           cwd=directory, port=port)
    return made


def measure(server: Server, load: Load, count: int) -> float:
    before = cpu_seconds(server.pid)
    load(server.port, count)
    return (cpu_seconds(server.pid) - before) / count * 1e6


def compare(name: str, quick: bool, rounds: int) -> list[list[str]]:
    """The rows of one library."""
    rows = []
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        (Path(directory) / "file").write_bytes(bytes(SIZE))
        made = servers(name, Path(directory))
        for server in made.values():
            stack.enter_context(server)
        for what, load, count in LOADS[name]:
            figures = interleave({
                which: lambda server=server, load=load, count=count: measure(
                    server, load, count // 10 if quick else count)
                for which, server in made.items()}, 1 if quick else rounds)
            own = figures["own"]
            rows.append([f"{name}, {what}",
                         *(f"{median(figures[way]):.0f}" for way in ("apihour", "own")),
                         *(f"{ratio(own, figures[way]):.2f}" for way in ("apihour", "handed"))])
    return rows


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--libraries", default=",".join(LOADS))
    options = parser.parse_args()
    print(interpreter(), flush=True)
    if LOAD_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CPU})
    rows = [row for name in options.libraries.split(",")
            for row in compare(name, options.quick, options.rounds)]
    print(table(["operation", "apihour, CPU µs", "own, CPU µs", "of own", "handed, of own"], rows))


if __name__ == "__main__":
    main()
