"""Requests lost while a Deployment of several daemons is rolled, as Kubernetes would roll it.

How to run (about three minutes; HAProxy is needed: apt-get install haproxy)::

    .venv/bin/python benchmarks/rolling.py [--replicas 3] [--rounds 2] [--quick]

Each replica is a daemon with a port, a runtime directory and a health port of its own, started with
the options of docs/howto/kubernetes.rst, behind HAProxy, which looks at ``/readyz`` in the rhythm
of that page's probes. A round replaces all: one more daemon is started (``maxSurge: 1``), and once
it has been ready for as long as a look takes, an old one gets SIGTERM and has its
``terminationGracePeriodSeconds`` to leave, after which it would be killed: that is counted too.

The loads run through the proxy all the time: requests on kept connections, a connection for each
request, and WebSockets, which are told to come back.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from _bench import Server, arguments, interpreter, python, table

from apihour.testing import Load

HERE = Path(__file__).parent
LOADS = {"keep-alive": "/slow", "connection": "/", "websocket": "/ws"}


@dataclass(frozen=True)
class Rhythm:
    """Seconds between two looks at a probe, of the drain's delay, and until a pod is killed."""

    probe: float
    drain_delay: float
    grace: float


LIKE_THE_PAGE = Rhythm(probe=2.0, drain_delay=5.0, grace=45.0)
QUICK = Rhythm(probe=0.3, drain_delay=1.5, grace=20.0)


@dataclass(frozen=True)
class Slot:
    """Where a replica may listen: HAProxy knows as many as there may be at once."""

    http: int
    health: int

    def is_ready(self) -> bool:
        """What the readiness probe says."""
        return answers(self.health, "/readyz")


def answers(port: int, path: str) -> bool:
    """Whether a GET of it is answered by 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return sock.makefile("rb").readline().startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def ports(count: int) -> list[int]:
    """So many that are free."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


def wait_for(what: str, done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Raises TimeoutError."""
    ends = time.monotonic() + seconds
    while not done():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


@contextmanager
def proxy(slots: list[Slot], rhythm: Rhythm, directory: Path) -> Iterator[int]:
    """HAProxy before the slots; gives its port."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        sys.exit("rolling.py: needs HAProxy: apt-get install haproxy")
    (port,) = ports(1)
    looked = f"check inter {round(1000 * rhythm.probe)}ms fall 2 rise 1"
    servers = "\n".join(f"    server pod{number} 127.0.0.1:{slot.http} {looked} port {slot.health}"
                        for number, slot in enumerate(slots))
    (directory / "haproxy.cfg").write_text(f"""\
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout tunnel 1h
listen shop
    bind 127.0.0.1:{port}
    option httpchk GET /readyz
{servers}
""")
    with Server([program, "-db", "-f", directory / "haproxy.cfg"], port=port, cpu=None):
        yield port


@contextmanager
def replica(slot: Slot, rhythm: Rhythm, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A pod: a daemon of two workers."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            python("-m", "apihour", "reload_apps:Container", "--workers", "2",
                   "-b", f"http=127.0.0.1:{slot.http}", "--health", f"127.0.0.1:{slot.health}",
                   "--drain-delay", str(rhythm.drain_delay), "--graceful-timeout", "15"),
            cwd=HERE / "load", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("a replica", lambda: process.poll() is not None or slot.is_ready())
        if process.poll() is not None:
            raise RuntimeError((directory / "log").read_text())
        yield process
    finally:
        process.terminate()
        try:
            process.wait(rhythm.grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            print(f"pid {process.pid} was killed after {rhythm.grace:g} s")


def roll(slots: list[Slot], replicas: int, rounds: int, rhythm: Rhythm, directory: Path) -> None:
    """Start the replicas under the loads, and replace each of them so many times."""
    free, pods = list(slots), []  # the oldest pod first
    with ExitStack() as stack:
        def start() -> None:
            slot = free.pop(0)
            pods.append((slot, stack.enter_context(ExitStack())))
            pods[-1][1].enter_context(replica(slot, rhythm, directory))

        for _ in range(replicas):
            start()
        port = stack.enter_context(proxy(slots, rhythm, directory))
        wait_for("an answer", lambda: answers(port, "/"))
        loads = [stack.enter_context(Load(kind, f"127.0.0.1:{port}", path=path, think=(0.0, 0.05)))
                 for kind, path in LOADS.items()]
        began = time.monotonic()
        for _ in range(rounds * replicas):
            start()
            time.sleep(2 * rhythm.probe)  # Kubernetes' own delay until the proxies know
            slot, old = pods.pop(0)
            old.close()
            free.append(slot)
        reports = [load.stop() for load in loads]
        print(f"{rounds * replicas} daemons replaced in {time.monotonic() - began:.0f} s")
        print(table(["load", "requests", "lost", "told", "worst"], [
            [each.kind, each.ok, each.lost, each.told,
             next((failure.detail for failure in each.failures), "-")] for each in reports]))
        if any(each.lost for each in reports):
            sys.exit(1)


def main() -> None:
    """Run it and print the table; exits with 1 when something was lost."""
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--replicas", type=int, default=3, help="daemons that serve")
    options = parser.parse_args()
    rhythm, rounds = (QUICK, 1) if options.quick else (LIKE_THE_PAGE, options.rounds)
    print(f"{interpreter()}; {options.replicas} replicas, {rhythm}")
    found = ports(2 * (options.replicas + 1))
    slots = [Slot(*pair) for pair in zip(found[::2], found[1::2], strict=True)]
    with tempfile.TemporaryDirectory() as directory:
        roll(slots, options.replicas, rounds, rhythm, Path(directory))


if __name__ == "__main__":
    main()
