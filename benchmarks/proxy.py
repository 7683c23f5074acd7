"""What a proxied byte, message and connection cost: ours, HAProxy's and nginx's (stream).

How to run (two minutes; haproxy and nginx with its stream module are left out where they are not
installed)::

    .venv/bin/python benchmarks/proxy.py [--rounds 5]

One process each, with one thread, pinned to one CPU; client and upstream are on another. Both
HAProxy's ways are measured, by copying and by splice(2) (``option splice-auto``). Loads: ``bulk``,
one answer of 1 GiB; ``trips``, 64 bytes there and back on one connection; ``connections``, each
with one such trip. The figure is CPU time of the proxy; ``of haproxy`` is the median of HAProxy's
figure through it in the same round, by its better way: more than 1 is less time than HAProxy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

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
    table,
)

GIB = 1 << 30
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def upstream() -> int:
    """Start what answers a number of 8 bytes with so many; returns its port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def serve(client: socket.socket) -> None:
        text = b"x" * (1 << 18)
        with client, contextlib.suppress(ConnectionError):
            while asked := client.recv(8):
                left = int.from_bytes(asked, "big")
                while left:
                    left -= client.send(text[:left])

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(sock.getsockname()[1])


def ask(sock: socket.socket, size: int, buffer: bytearray) -> None:
    sock.sendall(size.to_bytes(8, "big"))
    while size:
        got = sock.recv_into(buffer)
        if not got:
            raise RuntimeError(f"the connection ended {size} bytes before its answer did")
        size -= got


def bulk(port: int, count: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        ask(sock, count, bytearray(1 << 18))


def trips(port: int, count: int) -> None:
    buffer = bytearray(64)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(count):
            ask(sock, 64, buffer)


def connections(port: int, count: int) -> None:
    for _ in range(count):
        trips(port, 1)


LOADS: dict[str, tuple[Callable[[int, int], None], int, float, str]] = {
    "bulk": (bulk, GIB, GIB, "s a GiB"),
    "trips": (trips, 20_000, 1e-6, "µs"),
    "connections": (connections, 4000, 1e-6, "µs"),
}


def haproxy(directory: Path, target: int, name: str, option: str) -> Server:
    port, path = free_port(), directory / f"{name}.cfg"
    path.write_text(f"""\
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {option}
listen proxy
  bind 127.0.0.1:{port}
  server upstream 127.0.0.1:{target}
""")
    return Server(["haproxy", "-db", "-f", path], port=port)


def nginx(directory: Path, target: int) -> Server:
    port, path = free_port(), directory / "nginx.conf"
    path.write_text(f"""\
load_module {MODULE};
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ }}
stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{target};
                    proxy_buffer_size 64k; }} }}
""")
    return Server(["nginx", "-p", directory, "-c", path], port=port)


def ours(target: int) -> Server:
    return Server([sys.executable, "-m", "apihour", "proxy_app:Container", "--workers", "1",
                   "--no-console"], r"127\.0\.0\.1:(\d+)", cwd=HERE / "load",
                  environment={"UPSTREAM": f"127.0.0.1:{target}"})


@contextlib.contextmanager
def servers(target: int) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = {"apihour": ours(target)}
        if shutil.which("haproxy"):
            made["haproxy"] = haproxy(directory, target, "haproxy", "")
            made["haproxy, splice"] = haproxy(directory, target, "splice", "option splice-auto")
        if shutil.which("nginx") and MODULE.exists():
            made["nginx"] = nginx(directory, target)
        yield {name: stack.enter_context(server) for name, server in made.items()}


def measure(server: Server, load: str, share: int) -> float:
    run, count, _, _ = LOADS[load]
    before = cpu_seconds(server.pid)
    run(server.port, count // share)
    return (cpu_seconds(server.pid) - before) / (count // share)


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    options = parser.parse_args()
    print(interpreter(), flush=True)
    if LOAD_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CPU})
    rounds, share = (1, 20) if options.quick else (options.rounds, 1)
    with servers(upstream()) as there:
        for load, (_, _, unit, named) in LOADS.items():
            figures = interleave({name: lambda server=server, load=load: measure(
                server, load, share) for name, server in there.items()}, rounds)
            far = [min(pair) for pair in zip(*(
                each for name, each in figures.items() if name.startswith("haproxy")),
                strict=True)] or figures["apihour"]
            scale = unit if unit > 1 else 1 / unit
            print(table([load, f"CPU {named}", "of haproxy"], [
                [name, f"{median(each) * scale:.3g}",
                 f"{median(a / b for a, b in zip(far, each, strict=True)):.2f}"]
                for name, each in figures.items()]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
