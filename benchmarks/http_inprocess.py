"""What a request costs a connection without sockets: two checkouts, measured alternately.

How to run: a minute, and a busy machine does little harm, as the two are measured in turns
of a few milliseconds and what counts is the ratio within each round::

    python benchmarks/http_inprocess.py                    this checkout
    python benchmarks/http_inprocess.py BEFORE AFTER       two checkouts, say git worktrees

    --cases query,post   only these loads      --forms def,asgi   only these endpoints
    --parser aiohttp     instead of the fastest installed
    --set NAME=VALUE     in the environment of AFTER alone, which may be the same checkout
    --rounds N

The figures of a build that is not optimised mislead: the environment that ``http.py`` makes
has Debian's interpreter, ``/tmp/apihour-benchmark-venv/bin/python``.

Each checkout gets a process, this interpreter and the same requests (``http_requests.py``):
64 connections whose transports write nowhere get one request each, then the loop turns until
all are answered. The figure is the CPU time of the thread, µs a request; ``close`` opens and
loses a connection for each. "after" below 1 is cheaper.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from _bench import HERE, ROOT, arguments, interleave, interpreter, median, pinned, ratio, table

sys.path.append(str(HERE / "peers"))
from http_requests import distinct
from msgspec.json import encode
from peers.common import MESSAGE_JSON, decode_user, welcome

CASES = ("query", "browser", "post", "routes", "close", "same")
FORMS = ("def", "async", "aiohttp", "asgi")
HOSTED = {"aiohttp", "asgi"}
CONNECTIONS = 64
TURNS = 12  # of all connections: some milliseconds, less than the machine's other work takes


class Nowhere(asyncio.Transport):
    """A transport that keeps what is written until it is counted."""

    def __init__(self, written: list[bytes]) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 80)})
        self.write = written.append  # type: ignore[method-assign]
        self.writelines = written.extend  # type: ignore[assignment, method-assign]

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = write_eof = pause_reading = resume_reading = close

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


# The servers, made from the checkout that PYTHONPATH names


def make_server(form: str, options: dict[str, Any]) -> Any:
    """One server of the form of endpoint: direct, or with a hosted application."""
    if form == "asgi":
        asgi = importlib.import_module("apihour_asgi")
        return asgi.ASGIServer(asgi_application, lifespan="off", **options)
    http = importlib.import_module("apihour_http")
    if form == "aiohttp":
        return http.HTTPServer(app=aiohttp_application(), **options)
    ours = importlib.import_module("apihour_app")
    return http.HTTPServer(ours.routes if form == "async" else ours.inline, **options)


def aiohttp_application() -> Any:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=MESSAGE_JSON, content_type="application/json")

    async def create(request: web.Request) -> web.Response:
        return web.Response(body=welcomed(await request.read()), content_type="application/json")

    application = web.Application()
    application.router.add_get("/json", hello)
    application.router.add_post("/users", create)
    return application


async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
    body = MESSAGE_JSON
    if scope["method"] == "POST":
        body = welcomed((await receive())["body"])
    await send({
        "type": "http.response.start", "status": 200, "headers": [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
    })
    await send({"type": "http.response.body", "body": body})


def welcomed(body: bytes) -> bytes:
    """What answers a POST of the load."""
    return encode(welcome(decode_user(body)))


class Bench:
    """One server and its connections, fed one turn after the other."""

    def __init__(self, server: Any, case: str) -> None:
        self.server = server
        self.closes = case == "close"
        self.written: list[bytes] = []
        sent = distinct(case)
        self.expected = sent[0].body
        self.stream: Iterator[bytes] = itertools.cycle(each.raw for each in sent)
        self.writes = 1  # for one answer

    def connect(self) -> Any:
        connection = self.server.stream()
        connection.connection_made(Nowhere(self.written))
        return connection

    async def check(self) -> None:
        """Raise RuntimeError unless the first answer is right; see how often it writes."""
        connection = self.connect()
        connection.data_received(next(self.stream))
        for _ in range(10):
            await asyncio.sleep(0)
        said = b"".join(self.written)
        if not said.startswith(b"HTTP/1.1 200") or not said.endswith(self.expected):
            raise RuntimeError(f"{said[-300:]!r}: expected 200 and {self.expected!r}")
        self.writes = len(self.written)
        connection.connection_lost(None)
        self.written.clear()

    async def wait_answered(self) -> None:
        """Turn the loop until all connections have answered. Raises RuntimeError if they do not."""
        for _ in range(1000):
            if len(self.written) >= self.writes * CONNECTIONS:
                return
            await asyncio.sleep(0)
        raise RuntimeError(f"{len(self.written)} writes: expected {self.writes * CONNECTIONS}")

    async def turns(self, count: int) -> float:
        """CPU time of one request in µs, over `count` turns of all connections."""
        requests = [[next(self.stream) for _ in range(CONNECTIONS)] for _ in range(count)]
        lanes = [] if self.closes else [self.connect() for _ in range(CONNECTIONS)]
        began = time.thread_time_ns()
        for turn in requests:
            connections = lanes or [self.connect() for _ in turn]
            for connection, request in zip(connections, turn, strict=True):
                connection.data_received(request)
            await self.wait_answered()
            if self.closes:
                for connection in connections:
                    connection.connection_lost(None)
            self.written.clear()
        used = time.thread_time_ns() - began
        for connection in lanes:
            connection.connection_lost(None)
        return used / (count * CONNECTIONS) / 1000


async def answer_measurements(parser: str) -> None:
    """Measure what each line of the input names, "form case", and print its µs a request."""
    logging.disable()  # a machine that is busy makes every endpoint look slow
    print(Path(importlib.import_module("apihour_http").__file__ or "").parent, flush=True)
    benches: dict[str, Bench] = {}
    while line := sys.stdin.readline().strip():
        if line not in benches:
            form, case = line.split()
            server = make_server(form, {"parser": parser})
            await server.start()
            benches[line] = Bench(server, case)
            await benches[line].check()
            await benches[line].turns(4 * TURNS)
        print(await benches[line].turns(TURNS), flush=True)


# The command


class Checkout:
    """A process that measures what one checkout costs."""

    def __init__(
        self, path: Path, script: str, *words: str, environment: Mapping[str, str] | None = None,
    ) -> None:
        """`script` is what measures, with `words` on its command line."""
        self.path = path = path.resolve()
        protocols = path / "protocols"
        if not (protocols / "apihour_http").is_dir():
            raise SystemExit(f"{path}: expected a checkout of apihour, with protocols/apihour_http")
        self.process = subprocess.Popen(
            [*pinned(os.cpu_count() and max(os.sched_getaffinity(0))), sys.executable, script,
             "--measure", *words],
            env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{protocols}",
                 **(environment or {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        found = self._answer()
        if Path(found).parent != protocols:
            raise SystemExit(f"{path}: its process has imported {found}")

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{self.path}: the process that measures it has ended")
        return line

    def measure(self, what: str) -> float:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        return float(self._answer())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def options() -> argparse.Namespace:
    parser = arguments(__doc__, rounds=41)
    parser.add_argument("checkouts", nargs="*", type=Path, help="one or two; default: this one")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--forms", default=",".join(FORMS), help=f"of {', '.join(FORMS)}")
    parser.add_argument("--parser", default="auto", help="httptools or aiohttp")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="environment",
        help="in the environment of the second checkout")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    for name, known in (("cases", CASES), ("forms", FORMS)):
        words = getattr(found, name).split(",")
        if unknown := [word for word in words if word not in known]:
            parser.error(f"--{name} {unknown[0]}: expected {', '.join(known)}")
        setattr(found, name, words)
    for each in found.environment:
        if "=" not in each or len(found.checkouts) != 2:
            parser.error(f"--set {each}: expected NAME=VALUE, and two checkouts")
    if len(found.checkouts) > 2:
        parser.error(f"{len(found.checkouts)} checkouts: expected one or two")
    return found


def compare(checkouts: list[Checkout], what: str, rounds: int) -> list[list[float]]:
    """The figures of each checkout for "form case", measured alternately."""
    makers: dict[str, Callable[[], float]] = {
        str(place): lambda c=checkout: c.measure(what)  # type: ignore[misc]
        for place, checkout in enumerate(checkouts)
    }
    return list(interleave(makers, rounds).values())


def report(checkouts: list[Checkout], found: argparse.Namespace) -> str:
    rows: list[list[str]] = []
    for form, case in itertools.product(found.forms, found.cases):
        if form in HOSTED and case == "routes":
            continue  # what such an application does with these is not the connection's
        figures = compare(checkouts, f"{form} {case}", 5 if found.quick else found.rounds)
        row = [f"{form}, {case}", *(f"{median(each):.2f}" for each in figures)]
        if len(figures) > 1:
            row.append(f"{ratio(figures[1], figures[0]):.3f}")
        rows.append(row)
    names = ["before", "after", "after/before"] if len(checkouts) > 1 else ["µs"]
    return table(["CPU µs a request", *names], rows)


def main() -> None:
    found = options()
    if found.measure:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(answer_measurements(found.parser))
        return
    checkouts: list[Checkout] = []
    try:
        for path in found.checkouts or [ROOT]:
            changes = dict(each.split("=", 1) for each in found.environment) if checkouts else {}
            checkouts.append(
                Checkout(path, __file__, "--parser", found.parser, environment=changes))
            print(f"{'after' if len(checkouts) > 1 else 'before'}: {checkouts[-1].path}")
        print(f"{interpreter()}, parser {found.parser}\n", flush=True)
        print(report(checkouts, found))
    finally:
        for checkout in checkouts:
            checkout.end()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
