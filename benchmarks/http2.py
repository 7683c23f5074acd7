"""CPU time of an answer on HTTP/2, beside hypercorn's and granian's.

How to run (about two minutes; it needs h2load of nghttp2, and hypercorn and granian beside)::

    .venv/bin/pip install hypercorn granian uvloop
    .venv/bin/python benchmarks/http2.py [--rounds 7] [--quick]

One worker each on CPU 1, h2load on CPU 0: 4 connections of 16 streams, 800 different paths on
each, so that no head is one that was seen. ``browser`` has a browser's fields, ``post`` a body of
200 bytes. A figure above 1 says that the peer costs more than we do; the goal is >= 0.95, of ASGI
beside ASGI, and of the direct lane beside the peer's best.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _bench import (
    HERE,
    Server,
    arguments,
    free_port,
    interleave,
    interpreter,
    median,
    python,
    ratio,
    table,
)
from h2load import H2Load, need_h2load

LOAD = HERE / "load"
PORT = r"(?:port |127\.0\.0\.1:)([1-9]\d*)"
BROWSER = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language: en-US,en;q=0.5", "accept-encoding: gzip, deflate, br, zstd",
    "cookie: session=0123456789abcdef0123456789abcdef; theme=dark", "sec-fetch-dest: document",
    "sec-fetch-mode: navigate", "sec-fetch-site: none", "upgrade-insecure-requests: 1",
)
CASES: dict[str, list[str]] = {
    "get": [], "browser": [word for field in BROWSER for word in ("-H", field)], "post": [],
}


def ours(kind: str) -> Server:
    return Server(python(LOAD / "http2_app.py", kind), PORT)


def granian(interface: str) -> Server:
    port = free_port()
    return Server(
        python("-m", "granian", "--interface", interface, "--http", "2", "--loop", "uvloop",
               "--host", "127.0.0.1", "--port", str(port), "--no-log", "--workers", "1",
               f"http2_app:{interface}"), cwd=LOAD, port=port)


def hypercorn() -> Server:
    return Server(
        python("-m", "hypercorn", "-k", "uvloop", "-b", "127.0.0.1:0", "http2_app:asgi"),
        PORT, cwd=LOAD)


SERVERS: dict[str, Callable[[], Server]] = {
    "apihour, direct": lambda: ours("direct"),
    "apihour, ASGI": lambda: ours("asgi"),
    "granian, RSGI": lambda: granian("rsgi"),
    "granian, ASGI": lambda: granian("asgi"),
    "hypercorn, ASGI": hypercorn,
}
PAIRS = (("apihour, direct", "granian, RSGI"), ("apihour, ASGI", "granian, ASGI"),
         ("apihour, ASGI", "hypercorn, ASGI"))


def case(server: Server, kind: str, count: int, folder: Path) -> H2Load:
    """Answers of one server to requests of that kind."""
    paths = folder / f"{server.port}.txt"
    paths.write_text("".join(
        f"http://127.0.0.1:{server.port}/items/{n * 7919 % 100_003}?page={n}\n"
        for n in range(1000)))
    body = folder / "body"
    body.write_bytes(b"x" * 200)
    return H2Load(server, count, ["-i", str(paths), *CASES[kind],
                                  *(["-d", str(body)] if kind == "post" else [])])


def main() -> int:
    options = arguments(__doc__, rounds=7).parse_args()
    need_h2load()
    count = 400 if options.quick else 3200  # hypercorn closes after 1,000 of a connection
    rounds = 2 if options.quick else options.rounds
    names = [name for name in SERVERS
             if importlib.util.find_spec(name.partition(",")[0]) is not None
             or name.startswith("apihour")]
    print(interpreter())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {name: stack.enter_context(SERVERS[name]()) for name in names}
        figures = {kind: interleave({name: case(server, kind, count, folder)
                                     for name, server in servers.items()}, rounds)
                   for kind in CASES}
    print("\nCPU microseconds of an answer (median)\n")
    print(table(["", *CASES], [[name, *(f"{median(figures[kind][name]):.1f}" for kind in CASES)]
                               for name in names]))
    print("\npeer / ours, within rounds (goal >= 0.95)\n")
    print(table(["", *CASES], [
        [f"{peer} / {own}", *(f"{ratio(figures[kind][peer], figures[kind][own]):.2f}"
                              for kind in CASES)]
        for own, peer in PAIRS if peer in names]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
