"""CPU time of a unary call of gRPC, beside grpclib's own server and grpcio's.

How to run (about a minute; it needs h2load of nghttp2)::

    .venv/bin/python benchmarks/grpc_calls.py [--rounds 7] [--quick]

The same services in both: grpclib's health check by grpclib's generated code, and one by grpcio's
handlers. One process each on CPU 1, h2load on CPU 0: 4 connections of 16 calls at once. A figure
above 1 says that the peer costs more than we do; the goal is >= 0.95 of grpclib's.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from _bench import (
    HERE,
    Server,
    arguments,
    interleave,
    interpreter,
    median,
    python,
    ratio,
    table,
)
from h2load import H2Load, need_h2load

APP = HERE / "load" / "grpc_app.py"
SERVERS = {
    "apihour, grpclib's code": "apihour", "grpclib": "grpclib",
    "apihour, grpcio's code": "apihour-grpcio", "grpcio (grpc.aio)": "grpcio",
}
PAIRS = (("apihour, grpclib's code", "grpclib"), ("apihour, grpcio's code", "grpcio (grpc.aio)"))
MESSAGE = b"\0\0\0\0\0"  # a HealthCheckRequest of the whole server


def main() -> int:
    options = arguments(__doc__, rounds=7).parse_args()
    need_h2load()
    print(interpreter())
    with contextlib.ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "body"
        body.write_bytes(MESSAGE)
        servers = {name: stack.enter_context(Server(python(APP, kind)))
                   for name, kind in SERVERS.items()}
        words = ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        figures = interleave({
            name: H2Load(server, 400 if options.quick else 3000, [
                *words, f"http://127.0.0.1:{server.port}/grpc.health.v1.Health/Check"])
            for name, server in servers.items()}, 2 if options.quick else options.rounds)
    print(table(["CPU of a call", "us"],
                [[name, f"{median(found):.1f}"] for name, found in figures.items()]))
    print("\npeer / ours, within rounds (goal >= 0.95 of grpclib's)\n")
    print(table(["", "ratio"], [[f"{peer} / {own}", f"{ratio(figures[peer], figures[own]):.2f}"]
                                for own, peer in PAIRS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
