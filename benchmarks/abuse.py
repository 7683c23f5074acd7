"""Those who would take more than their share of a worker: what they cost it, and everybody else.

How to run (four minutes, and some four for each 10,000 sessions; ``openssl`` makes the
certificate)::

    .venv/bin/python benchmarks/abuse.py [--connections 10000] [--sessions 1000] [--only CASE]

One worker serves HTTP, HTTPS, TCP and SSH. CASE is one of:

- ``idle``: so many connections of each protocol that were used once and are silent: the worker's
  memory for each, and the time of a new request meanwhile;
- ``ssh``: so many that have logged in, and then have a shell each; and connections that say
  nothing, of which it holds few;
- ``slow``: a thousand that send a head, a body, or to a protocol of one's own, one byte a second:
  when they are closed; the last without any option, and with ``?min_rate=500``;
- ``descriptors``: more connections than the worker may have descriptors: who is in stays served,
  and how soon a new one is served after they have gone;
- ``half-closed``: a thousand that ask and send their end of file, and a thousand that send only
  that: how many are answered, and what is left of them.

Client and server share the machine, so times are an upper bound.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from _bench import HERE, interpreter, memory

from apihour.testing import Daemon

LOAD = HERE / "load"
SLOW = 1000  # connections that are slow, or half-closed
MIN_RATE = "?min_rate=500"
AT_ONCE = 200  # connections that are opened at a time: the backlog is a thousand or more
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def say(case: str, what: str, value: str) -> None:
    print(f"{case:22} {what:58} {value}", flush=True)


class House:
    """The daemon, and what is known of its one worker."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def pid(self) -> int:
        return self.daemon.workers("serving")[0].pid

    def held(self) -> int:
        return int(self.daemon.workers("serving")[0].connections)

    async def open(self, name: str, context: ssl.SSLContext | None = None) -> Pair:
        return await asyncio.open_connection("127.0.0.1", self.daemon.port(name), ssl=context)

    async def ask(self) -> float:
        """Seconds that a request on a new connection takes."""
        began = time.perf_counter()
        reader, writer = await self.open("http")
        writer.write(GET)
        answer = await asyncio.wait_for(reader.readuntil(b"here"), 30)
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()
        return time.perf_counter() - began

    async def tell_times(self, case: str, count: int = 50) -> None:
        times = sorted([await self.ask() for _ in range(count)])
        say(case, "a new request meanwhile, median and longest of 50",
            f"{statistics.median(times) * 1000:.1f} ms, {times[-1] * 1000:.0f} ms")


@contextlib.asynccontextmanager
async def crowd(count: int, make: Callable[[], Awaitable[Pair]]) -> AsyncIterator[list[Pair]]:
    """So many connections, until the end of the block."""
    pairs: list[Pair] = []
    try:
        while len(pairs) < count:
            more = min(AT_ONCE, count - len(pairs))
            pairs += await asyncio.gather(*(make() for _ in range(more)))
        yield pairs
    finally:
        for _, writer in pairs:
            writer.transport.abort()
        await asyncio.sleep(0)


async def settled(house: House, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while house.held() > wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{house.held()} connections are left; expected {wanted}")
        await asyncio.sleep(0.1)


async def idle(house: House, name: str, connections: int) -> None:
    """Of a fresh worker: another's memory would hold what was freed before."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    text, ends = (b"x", b"x") if name == "tcp" else (GET, b"here")

    async def used_once() -> Pair:
        reader, writer = await house.open(name, context if name == "tls" else None)
        writer.write(text)
        await asyncio.wait_for(reader.readuntil(ends), 60)
        return reader, writer

    async with crowd(20, used_once):  # what is made once is there
        pass
    await settled(house, 0)
    before = memory(house.pid)["uss"]
    async with crowd(connections, used_once):
        held, used = house.held(), memory(house.pid)["uss"] - before
        say(f"idle {name}", f"memory of each of {held:,}", f"{used * 1000 / held:.1f} kB")
        await house.tell_times(f"idle {name}")
    await settled(house, 0)


async def idle_ssh(house: House, sessions: int, connections: int) -> None:
    import asyncssh

    async def logged_in() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1", house.daemon.port("ssh"), known_hosts=None, username="x",
            client_keys=None, config=None, login_timeout=120)

    before, began = memory(house.pid)["uss"], time.monotonic()
    clients: list[asyncssh.SSHClientConnection] = []
    try:
        while len(clients) < sessions:
            clients += await asyncio.gather(
                *(logged_in() for _ in range(min(20, sessions - len(clients)))))
        used = memory(house.pid)["uss"] - before
        say("idle ssh", f"memory of each of {house.held():,} that have logged in",
            f"{used * 1000 / len(clients):.0f} kB, in {time.monotonic() - began:.0f} s")
        await house.tell_times("idle ssh")
        for at in range(0, len(clients), 20):
            await asyncio.gather(*(one.create_process() for one in clients[at:at + 20]))
        used = memory(house.pid)["uss"] - before
        say("idle ssh", f"memory of each of {house.held():,} with a shell",
            f"{used * 1000 / len(clients):.0f} kB")
        await house.tell_times("idle ssh")
    finally:
        for one in clients:
            one.abort()
    await settled(house, 0)

    async def silent() -> Pair:
        return await house.open("bare")

    async with crowd(connections, silent):
        await asyncio.sleep(2)
        say("idle ssh", f"held of {connections:,} that say nothing", f"{house.held():,}")
        await house.tell_times("idle ssh")
    await settled(house, 0)


BEGINS = {
    "head": b"GET / HTTP/1.1\r\nX-",
    "body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    "tcp": b"a",
}


async def slow(house: House, kind: str, patience: float, options: str = "") -> None:
    async def begun() -> Pair:
        reader, writer = await house.open("sink" if kind == "tcp" else "http")
        writer.write(BEGINS[kind])
        return reader, writer

    case = f"slow {kind}{options}"
    async with crowd(SLOW, begun) as pairs:
        began, asking = time.monotonic(), asyncio.ensure_future(house.tell_times(case))
        while (held := house.held()) > 1 and time.monotonic() - began < patience:
            for _, writer in pairs:
                if not writer.is_closing():
                    writer.write(b"a")
            await asyncio.sleep(1)
        await asking
        took = time.monotonic() - began
        say(case, f"of {SLOW:,} left", f"{max(0, held - 1):,} after {took:.0f} s")
    await settled(house, 0)


async def descriptors(house: House) -> None:
    limit = 512
    resource.prlimit(house.pid, resource.RLIMIT_NOFILE, (limit, limit))
    reader, writer = await house.open("tcp")
    before = len([line for line in house.daemon.log.splitlines() if "cannot accept" in line])
    began = time.monotonic()

    async def some() -> Pair:
        return await house.open("tcp")

    async with crowd(3 * limit, some):
        for _ in range(100):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 30) == b"x"
            await asyncio.sleep(0.02)
        lines = [line for line in house.daemon.log.splitlines() if "cannot accept" in line]
        say("descriptors", f"of {3 * limit:,} connections at {limit} descriptors are in",
            f"{house.held()}")
        say("descriptors", "echoes of one that was in before", "100 of 100")
        say("descriptors", "lines in the log", f"{len(lines) - before} in "
            f"{time.monotonic() - began:.0f} s")
    began = time.perf_counter()
    await house.ask()
    say("descriptors", "a new request after they have gone",
        f"{(time.perf_counter() - began) * 1000:.0f} ms")
    writer.close()


async def half_closed(house: House) -> None:
    async def asked() -> Pair:
        reader, writer = await house.open("http")
        writer.write(GET)
        writer.write_eof()
        return reader, writer

    async def ended() -> Pair:
        reader, writer = await house.open("http")
        writer.write_eof()
        return reader, writer

    for make, what in ((asked, "ask and end"), (ended, "end")):
        async with crowd(SLOW, make) as pairs:
            answers = await asyncio.gather(
                *(asyncio.wait_for(reader.read(), 60) for reader, _ in pairs))
            answered = sum(one.endswith(b"here") for one in answers)
            say("half-closed", f"of {SLOW:,} that {what}: answered, held after",
                f"{answered:,}, {house.held()}")


@contextlib.contextmanager
def served(directory: Path, options: str = "") -> Iterator[House]:
    binds = dict.fromkeys(("http", "tcp", "ssh", "bare"), "127.0.0.1:0")
    binds["sink"] = "127.0.0.1:0" + options
    binds["tls"] = f"127.0.0.1:0?tls={directory / 'cert.pem'}"
    words = [word for name, bind in binds.items() for word in ("-b", f"{name}={bind}")]
    with Daemon("abuse_app:Container", *words, "--keep-alive", "600", "--graceful-timeout", "1",
                "--backlog", "4096", workers=1, cwd=LOAD, timeout=60,
                env={"ABUSE_KEY": str(directory / "host_key")}) as daemon:
        yield House(daemon)


def certificate(directory: Path) -> None:
    path = directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "30", "-keyout", directory / "key", "-out", path, "-subj", "/CN=x"],
        check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (directory / "key").read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--only", choices=("idle", "ssh", "slow", "descriptors", "half-closed"))
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < max(given.connections, given.sessions) + 1000:
        sys.exit(f"{hard} descriptors (ulimit -Hn); expected 1,000 more than --connections and "
                 "--sessions, or fewer of them")

    def wants(case: str) -> bool:
        return given.only in (None, case)

    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        certificate(directory)
        for name in ("tcp", "http", "tls") if wants("idle") else ():
            with served(directory) as house:
                asyncio.run(idle(house, name, given.connections))
        with served(directory) as house:
            if wants("ssh"):
                asyncio.run(idle_ssh(house, given.sessions, given.connections))
            if wants("half-closed"):
                asyncio.run(half_closed(house))
            for kind in BEGINS if wants("slow") else ():
                asyncio.run(slow(house, kind, 30))
            if wants("descriptors"):  # the last: the worker has few from then on
                asyncio.run(descriptors(house))
        if wants("slow"):
            with served(directory, MIN_RATE) as house:
                asyncio.run(slow(house, "tcp", 30, MIN_RATE))
    print(interpreter())
    return 0


if __name__ == "__main__":
    sys.exit(main())
