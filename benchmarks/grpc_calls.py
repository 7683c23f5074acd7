"""CPU time of a unary call of gRPC, beside grpclib's own server and grpcio's.

How to run (about a minute; it needs h2load of nghttp2)::

    .venv/bin/python benchmarks/grpc_calls.py [--rounds 7] [--quick]

The same services in both: grpclib's health check by grpclib's generated code, and one by grpcio's
handlers. One process each on CPU 1, h2load on CPU 0: 4 connections of 16 calls at once. A figure
above 1 says that the peer costs more than we do; the goal is >= 0.95 of grpclib's.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import (
    HERE,
    LOAD_CPU,
    Server,
    arguments,
    cpu_seconds,
    interleave,
    interpreter,
    median,
    pinned,
    python,
    ratio,
    table,
)

APP = HERE / "load" / "grpc_app.py"
SERVERS = {
    "apihour, grpclib's code": "apihour", "grpclib": "grpclib",
    "apihour, grpcio's code": "apihour-grpcio", "grpcio (grpc.aio)": "grpcio",
}
PAIRS = (("apihour, grpclib's code", "grpclib"), ("apihour, grpcio's code", "grpcio (grpc.aio)"))
MESSAGE = b"\0\0\0\0\0"  # a HealthCheckRequest of the whole server


class Case:
    """CPU microseconds of a call of one server."""

    def __init__(self, server: Server, count: int, body: Path) -> None:
        self.server = server
        self.count = count
        self.command = [
            "h2load", "-n", str(count), "-c", "4", "-m", "16", "-d", str(body),
            "-H", "content-type: application/grpc", "-H", "te: trailers",
            f"http://127.0.0.1:{server.port}/grpc.health.v1.Health/Check"]

    def __call__(self) -> float:
        before = cpu_seconds(self.server.pid)
        said = subprocess.run([*pinned(LOAD_CPU), *self.command], check=True,
                              capture_output=True, text=True, timeout=120).stdout
        found = re.search(r"status codes: (\d+) 2xx", said)
        if found is None or int(found.group(1)) != self.count:
            raise RuntimeError(f"h2load: {said}")
        return (cpu_seconds(self.server.pid) - before) / self.count * 1e6


def main() -> int:
    options = arguments(__doc__, rounds=7).parse_args()
    if shutil.which("h2load") is None:
        print("h2load is missing: it comes with nghttp2 (nghttp2-client in Debian)")
        return 1
    print(interpreter())
    with contextlib.ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "body"
        body.write_bytes(MESSAGE)
        servers = {name: stack.enter_context(Server(python(APP, kind)))
                   for name, kind in SERVERS.items()}
        figures = interleave({name: Case(server, 400 if options.quick else 3000, body)
                              for name, server in servers.items()},
                             2 if options.quick else options.rounds)
    print(table(["CPU of a call", "us"],
                [[name, f"{median(found):.1f}"] for name, found in figures.items()]))
    print("\npeer / ours, within rounds (goal >= 0.95 of grpclib's)\n")
    print(table(["", "ratio"], [[f"{peer} / {own}", f"{ratio(figures[peer], figures[own]):.2f}"]
                                for own, peer in PAIRS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
