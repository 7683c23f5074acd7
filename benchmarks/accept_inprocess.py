"""What an accepted connection costs its server: two checkouts and the bare loop, in turns.

How to run: a minute, and a busy machine does little harm, as all are measured in turns of a
few milliseconds and what counts is the ratio within each round::

    python benchmarks/accept_inprocess.py                    this checkout
    python benchmarks/accept_inprocess.py BEFORE AFTER       two checkouts, say git worktrees

    --cases one,burst    only these loads
    --rounds N

Each checkout gets a process, this interpreter and the same clients: real sockets on loopback,
``one`` after the other or in a ``burst`` of 32. Each connects, sends a byte, gets it back and
resets the connection; for ``http`` it asks for an answer that closes. What the clients do is not
counted: the figure is the CPU time of the thread, in µs a connection, while the loop turns.
``bare`` is the same by the loop's own server (``loop.create_server``), in the same process.
Ratios below 1 are cheaper.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import itertools
import logging
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from _bench import HERE, ROOT, arguments, interleave, interpreter, median, ratio, table

sys.path.append(str(HERE / "peers"))
from http_inprocess import Checkout, loop_factory
from http_requests import distinct

CASES = {"one": 1, "burst": 32, "http": 1, "httpburst": 32}
TURNS = 192  # connections of one measurement
# A reset leaves nothing in TIME_WAIT: else the ports run out within seconds.
RESET = struct.pack("ii", 1, 0)


class Echo(asyncio.Protocol):
    """The raw protocol of both servers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Constant(Echo):
    """A constant answer to whatever asks, and the end of the connection."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)
        self.transport.close()


# The servers, made from the checkout that PYTHONPATH names


@contextlib.asynccontextmanager
async def bare(http: bool) -> AsyncIterator[Any]:
    """The loop's own server; its address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Constant if http else Echo, "127.0.0.1", 0, backlog=2048)
    yield server.sockets[0].getsockname()
    server.close()


@contextlib.asynccontextmanager
async def hosted(http: bool) -> AsyncIterator[Any]:
    """The host's stages in front of its plugin's server; the address."""
    accept = importlib.import_module("apihour.worker.accept")
    connections = importlib.import_module("apihour.worker.connections")
    board = importlib.import_module("apihour.ipc.scoreboard")
    row = board.BoardRow(memoryview(bytearray(64 * 8)).cast("d"), 0)
    table = connections.ConnectionTable("1.1", row.connection_numbers())
    server = http_server() if http else importlib.import_module("apihour_tcp").TCPServer(Echo)
    await server.start()
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
        sock.setblocking(False)
        acceptor = accept.Acceptor(
            "bench", sock, server, table, asyncio.get_running_loop(), logging.getLogger(),
            balance=accept.Balance(row, tuple), total=100_000)
        acceptor.start()
        yield sock.getsockname()
        acceptor.stop()
    await server.stop()


def http_server() -> Any:
    ours = importlib.import_module("apihour_app")
    return importlib.import_module("apihour_http").HTTPServer(ours.inline)


# The clients


class Clients:
    """Connections to one server, so many at a time."""

    def __init__(self, address: Any, at_once: int, http: bool) -> None:
        self.address = address
        self.at_once = at_once
        self.http = http
        sent = distinct("close") if http else []
        self.requests = itertools.cycle([each.raw for each in sent] or [b"x"])

    async def turns(self) -> float:
        """CPU time of the server for one connection, in µs."""
        used = 0
        for _ in range(TURNS // self.at_once):
            clients = [self._connect() for _ in range(self.at_once)]
            used += await self._until_answered(clients)
            for client in clients:
                client.close()
            used += await _passing(3)
        return used / (TURNS // self.at_once * self.at_once) / 1000

    def _connect(self) -> socket.socket:
        client = socket.create_connection(self.address, timeout=10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.sendall(next(self.requests))
        client.setblocking(False)
        return client

    async def _until_answered(self, clients: list[socket.socket]) -> int:
        used = 0
        for _ in range(1000):
            used += await _passing(1)
            if _have_answers(clients):
                return used
        raise RuntimeError("no answer")


def _have_answers(clients: list[socket.socket]) -> bool:
    """Whether all have theirs; what is asked here is not counted."""
    for client in clients:
        try:
            if not client.recv(1, socket.MSG_PEEK):
                raise RuntimeError("closed without an answer")
        except BlockingIOError:
            return False
    return True


async def _passing(turns: int) -> int:
    """CPU time of the thread in ns over some turns of the loop."""
    began = time.thread_time_ns()
    for _ in range(turns):
        await asyncio.sleep(0)
    return time.thread_time_ns() - began


async def answer_measurements() -> None:
    """Measure what each line of the input names, "server case", and print its figure."""
    logging.disable()
    print(Path(importlib.import_module("apihour_http").__file__ or "").parent, flush=True)
    async with contextlib.AsyncExitStack() as stack:
        found: dict[str, Clients] = {}
        while line := sys.stdin.readline().strip():
            if line not in found:
                server, case = line.split()
                http = case.startswith("http")
                address = await stack.enter_async_context(
                    (bare if server == "bare" else hosted)(http))
                found[line] = Clients(address, CASES[case], http)
                await found[line].turns()
            print(await found[line].turns(), flush=True)


# The command


def options() -> argparse.Namespace:
    parser = arguments(__doc__, rounds=41)
    parser.add_argument("checkouts", nargs="*", type=Path, help="one or two; default: this one")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.cases = found.cases.split(",")
    if unknown := [word for word in found.cases if word not in CASES]:
        parser.error(f"--cases {unknown[0]}: expected {', '.join(CASES)}")
    if len(found.checkouts) > 2:
        parser.error(f"{len(found.checkouts)} checkouts: expected one or two")
    return found


def main() -> None:
    found = options()
    if found.measure:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(answer_measurements())
        return
    checkouts: list[Checkout] = []
    try:
        for path in found.checkouts or [ROOT]:
            checkouts.append(Checkout(path, __file__))
        print(f"{interpreter()}\n", flush=True)
        print(report(checkouts, found.cases, 5 if found.quick else found.rounds))
    finally:
        for checkout in checkouts:
            checkout.end()


def report(checkouts: list[Checkout], cases: list[str], rounds: int) -> str:
    rows = []
    for case in cases:
        figures = interleave({
            "bare": lambda c=case: checkouts[-1].measure(f"bare {c}"),  # type: ignore[misc]
            **{str(n): lambda c=case, o=each: o.measure(f"hosted {c}")  # type: ignore[misc]
               for n, each in enumerate(checkouts)},
        }, rounds)
        bare, *ours = figures.values()
        row = [case, *(f"{median(each):.2f}" for each in (bare, *ours)),
               *(f"{ratio(each, bare):.3f}" for each in ours)]
        if len(ours) > 1:
            row.append(f"{ratio(ours[1], ours[0]):.3f}")
        rows.append(row)
    names = (["bare", "before", "after", "before/bare", "after/bare", "after/before"]
             if len(checkouts) > 1 else ["bare", "hosted", "hosted/bare"])
    return table(["CPU µs a connection", *names], rows)


if __name__ == "__main__":
    main()
