"""The shared store against what else it could have been: SQLite in memory, and an owner.

How to run (about a minute)::

    .venv/bin/python benchmarks/shared.py [--rounds 15] [--quick]

Candidates, each holding its data in ``/dev/shm``:

- ``files``: ``apihour.shared.store.Shared``, compare-and-set by file names;
- ``sqlite``: one database, write-ahead log, no synchronising, waits up to a second;
- ``owner``: a process that owns a dict, asked over a unix socket (uvloop, one line a call).

It prints microseconds a call, increments a second by four processes on one key, the delay of
a watch, and what happens to others when one process is stopped or killed at random moments; and
what the store and ``shared.cache()`` cost of keys that come once each, as those of a cache do.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

from _bench import arguments, interleave, interpreter, median, percentile, pinned, python, table

from apihour.shared.store import Shared

KINDS = ("files", "sqlite", "owner")
PROCESSES = 4
PATIENCE = 1.0  # seconds after which a call counts as blocked


class SQLite:
    """get, put and incr on a database in memory."""

    def __init__(self, directory: str) -> None:
        self.db = sqlite3.connect(f"{directory}/db", timeout=PATIENCE, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value, revision INTEGER)"
        )

    async def get(self, key: str) -> object:
        return self.db.execute("SELECT value, revision FROM kv WHERE key=?", (key,)).fetchone()

    async def put(self, key: str, value: bytes) -> object:
        return self.db.execute(
            "INSERT INTO kv VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET value=excluded.value, "
            "revision=revision+1 RETURNING revision", (key, value)
        ).fetchone()

    async def incr(self, key: str) -> object:
        return self.db.execute(
            "INSERT INTO kv VALUES (?, 1, 1) ON CONFLICT DO UPDATE SET value=value+1, "
            "revision=revision+1 RETURNING value", (key,)
        ).fetchone()

    async def close(self) -> None:
        self.db.close()


class Owner:
    """get, put and incr asked of the process that :func:`serve` runs in."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/socket"
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, verb: str, key: str, value: bytes = b"") -> bytes:
        if self.streams is None:
            self.streams = await asyncio.open_unix_connection(self.path, limit=1 << 22)
        reader, writer = self.streams
        writer.write(f"{verb} {key} {value.hex()}\n".encode())
        async with asyncio.timeout(PATIENCE):
            return await reader.readline()

    async def get(self, key: str) -> object:
        return await self.call("get", key)

    async def put(self, key: str, value: bytes) -> object:
        return await self.call("put", key, value)

    async def incr(self, key: str) -> object:
        return await self.call("incr", key)

    async def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()


async def serve(directory: str) -> None:
    """The owner's process."""
    entries: dict[str, tuple[int, bytes]] = {}

    class Calls(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.rest = b""

        def data_received(self, data: bytes) -> None:
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                verb, key, value = line.decode().split(" ")
                revision, old = entries.get(key, (0, b"0"))
                if verb != "get":
                    new = b"%d" % (int(old) + 1) if verb == "incr" else bytes.fromhex(value)
                    entries[key] = revision, old = revision + 1, new
                self.transport.write(f"{revision} {old.hex()}\n".encode())  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(Calls, f"{directory}/socket")
    print("ready", flush=True)
    await server.serve_forever()


def client(kind: str, directory: str) -> Shared | SQLite | Owner:
    if kind == "files":
        return Shared(f"{directory}/files", deadline=PATIENCE)
    return SQLite(directory) if kind == "sqlite" else Owner(directory)


async def count(kind: str, directory: str, number: int) -> None:
    """A child: increment one key when told to; say how long that took."""
    store = client(kind, directory)
    await store.incr("contended")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    for _ in range(number):
        await store.incr("contended")
    print(time.perf_counter() - began, flush=True)


async def stamp(directory: str, number: int) -> None:
    """A child: write the time at random moments."""
    store = Shared(f"{directory}/files")
    for _ in range(number):
        await asyncio.sleep(0.02 + random.random() * 0.02)
        await store.put("time", b"%d" % time.monotonic_ns())


def child(*words: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        python(__file__, *map(str, words)), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return process


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def microseconds(call: Callable[[], Awaitable[object]], number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        await call()
    return (time.perf_counter() - began) / number * 1e6


def single(
    runner: asyncio.Runner, directory: str, rounds: int, number: int
) -> dict[str, dict[str, float]]:
    """Microseconds a call, by operation and kind."""
    stores = {kind: client(kind, directory) for kind in KINDS}
    value, large = b"v" * 20, b"v" * 10_000
    calls: dict[str, Callable[[Shared | SQLite | Owner], Awaitable[object]]] = {
        "put, 20 bytes": lambda store: store.put("small", value),
        "get, 20 bytes": lambda store: store.get("small"),
        "put, 10 kB": lambda store: store.put("large", large),
        "get, 10 kB": lambda store: store.get("large"),
        "incr": lambda store: store.incr("count"),
    }
    results: dict[str, dict[str, float]] = {}
    for name, call in calls.items():
        figures = interleave({
            kind: lambda s=store, c=call: runner.run(  # type: ignore[misc]
                microseconds(lambda: c(s), number)
            )
            for kind, store in stores.items()
        }, rounds)
        results[name] = {kind: median(figures[kind]) for kind in KINDS}
    for store in stores.values():
        runner.run(store.close())
    return results


def contended(kind: str, directory: str, number: int) -> float:
    """Increments of one key a second by several processes together."""
    children = [child("count", kind, directory, number) for _ in range(PROCESSES)]
    try:
        for process in children:
            wait_ready(process)
        for process in children:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        times = [float(process.stdout.readline()) for process in children if process.stdout]
        return PROCESSES * number / max(times)
    finally:
        for process in children:
            end(process)


async def delays(directory: str, number: int) -> list[float]:
    """Milliseconds from a write in another process to the watch's seeing it."""
    shared = Shared(f"{directory}/files")
    process = child("stamp", directory, number)
    seen: list[float] = []
    try:
        async for change in shared.watch("time"):
            seen.append((time.monotonic_ns() - int(change.value or b"0")) / 1e6)
            if len(seen) == number:
                break
    finally:
        end(process)
        await shared.close()
    return seen


async def watch_cpu(directory: str) -> float:
    """Percent of a CPU that an idle watch takes."""
    shared = Shared(f"{directory}/files")
    task = asyncio.ensure_future(anext(shared.watch("nothing"), None))
    await asyncio.sleep(0.2)
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(2)
    share = (time.process_time() - used) / (time.perf_counter() - began) * 100
    await shared.close()
    await task
    return share


async def once_each(directory: str, number: int) -> list[list[object]]:
    """Microseconds a call of keys that come once: of the store, and of its cache."""
    shared = Shared(f"{directory}/files")
    cache = shared.cache("pages", 4 * number, 400)
    value = b"v" * 250
    calls: dict[str, tuple[Callable[[str], Awaitable[object]], ...]] = {
        "put": (lambda key: shared.put(key, value, ttl=60), lambda key: cache.put(key, value, 60)),
        "get": (shared.get, cache.get),
        "get, absent": (lambda key: shared.get(key + "?"), lambda key: cache.get(key + "?")),
        "delete": (shared.delete, cache.delete),
    }
    rows: list[list[object]] = []
    for name, pair in calls.items():
        figures = []
        for call in pair:
            keys = iter([f"pages/{each}" for each in range(number)])
            figures.append(await microseconds(lambda c=call, k=keys: c(next(k)), number))  # type: ignore[misc]
        rows.append([name, *(f"{figure:.1f}" for figure in figures)])
    await shared.close()
    return rows


async def halted(
    kind: str, directory: str, with_signal: signal.Signals, trials: int
) -> tuple[int, float]:
    """How often others were blocked by a writer halted at a random moment, and the worst call."""
    blocked, worst = 0, 0.0
    for _ in range(trials):
        process = child("count", kind, directory, 10**9)
        store = client(kind, directory)
        try:
            wait_ready(process)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            await asyncio.sleep(0.02 + random.random() * 0.02)
            process.send_signal(with_signal)
            began = time.perf_counter()
            try:
                for _ in range(3):
                    await store.incr("contended")
            except (sqlite3.OperationalError, TimeoutError):
                blocked += 1
            worst = max(worst, time.perf_counter() - began)
        finally:
            with contextlib.suppress(sqlite3.Error):
                await store.close()
            end(process)
    return blocked, worst * 1000


def main() -> None:
    options = arguments(__doc__).parse_args()
    number, trials = (200, 3) if options.quick else (1000, 20)
    print(interpreter())
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="apihour-bench-") as directory:
        owner = subprocess.Popen(
            [*pinned(0), *python(__file__, "serve", directory)], text=True,
            stdout=subprocess.PIPE,
        )
        try:
            wait_ready(owner)
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                measure(runner, directory, options.rounds, number, trials)
        finally:
            owner.kill()
            owner.communicate()


def measure(
    runner: asyncio.Runner, directory: str, rounds: int, number: int, trials: int
) -> None:
    rows: list[list[object]] = [
        [f"{name}, µs", *(f"{figures[kind]:.1f}" for kind in KINDS)]
        for name, figures in single(runner, directory, rounds, number).items()
    ]
    shares = interleave(
        {kind: lambda k=kind: contended(k, directory, 5 * number) for kind in KINDS},  # type: ignore[misc]
        max(3, rounds // 3),
    )
    rows.append([
        f"incr of one key by {PROCESSES} processes, 1/s",
        *(f"{median(shares[kind]):,.0f}" for kind in KINDS),
    ])
    for with_signal in (signal.SIGSTOP, signal.SIGKILL):
        outcomes = [
            runner.run(halted(kind, directory, with_signal, trials)) for kind in KINDS
        ]
        name = f"writer halted by {with_signal.name}, others"
        rows.append([f"{name} blocked", *(f"{o[0]}/{trials}" for o in outcomes)])
        rows.append([f"{name}' worst, ms", *(f"{o[1]:.1f}" for o in outcomes)])
    print(table(["", *KINDS], rows))
    seen = runner.run(delays(directory, 20 * trials))
    print(
        f"watch across processes: median {median(seen):.1f} ms, "
        f"p99 {percentile(seen, 99):.1f} ms; idle {runner.run(watch_cpu(directory)):.2f} % CPU"
    )
    print(table(["keys that come once, µs", "store", "cache"],
                runner.run(once_each(directory, 5 * number))))
    print("An owner that is itself stopped blocks everybody; killed, it takes the data with it.")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    roles = {"serve": serve, "count": count, "stamp": stamp}
    if len(sys.argv) > 1 and sys.argv[1] in roles:
        words = [int(word) if word.isdigit() else word for word in sys.argv[2:]]
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(roles[sys.argv[1]](*words))  # type: ignore[operator]
    else:
        main()
