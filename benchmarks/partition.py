"""Three hosts, a cluster of NATS over them, and what is lost when hosts and links fail under load.

How to run (ten seeds take about a quarter of an hour)::

    .venv/bin/python benchmarks/partition.py [--seeds 10] [--first 1] [--faults kill,isolate,...]
        [--loopback] [--quick] [--keep DIRECTORY]

Each run starts three hosts, network namespaces or, where the system refuses those (or with
``--loopback``), addresses of loopback with forwarders between them. A host is a node of NATS and a
daemon of two workers with a shell. Meanwhile the workers publish and take durable messages, count,
swap a register, watch it, and one holds a lease (``partition_app.py``). In an order of the seed:

- ``kill``: all of a host dies (SIGKILL) and comes again;
- ``isolate``: a host is cut off from the two others;
- ``one-way``: what a host sends to one other is lost;
- ``stop``: the holder of the lease is stopped until after its end, and wakes up;
- ``rolling``: NATS's nodes are restarted in turn;
- ``apart``: a host dies and comes up while it is cut off.

With odd seeds a daemon has the NATS of its own host among its servers, with even ones only those
of the others. What all of them wrote down is judged by ``partition_history.py``. Exit status 1 when
a run has a fault; ``--keep`` leaves its history and its logs there.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socketserver
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import partition_history as judge
from _bench import arguments, interpreter, table
from partition_faults import KINDS, Faults
from partition_hosts import PATIENCE, Host, make_keys, wait_for
from partition_net import Loopback, Namespaces, Network, enter_namespace

from apihour.errors import SharedDownError
from apihour.shared.open_shared import open_shared

HOSTS = 3
LOADS = 5  # of each worker, that end when it is over
REST = 2.0  # seconds between two faults
ACK_WAIT = 5.0  # seconds until a message that was not acknowledged comes again


class Resource(socketserver.ThreadingUnixStreamServer):
    """What one holder at a time may write to: no token is let in below the greatest seen."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.writes: list[dict[str, Any]] = []
        self._greatest = 0
        self._lock = threading.Lock()
        super().__init__(str(path), _Writes)

    def write(self, token: int, who: str) -> str:
        """Whether it is let in, in a word."""
        with self._lock:
            outcome = "ok" if token >= self._greatest else "stale"
            self._greatest = max(self._greatest, token)
            self.writes.append({"op": "write", "at": time.monotonic(), "who": who,
                                "token": token, "outcome": outcome})
        return outcome

    def holder(self) -> str:
        """Who was let in last; empty while nobody was for a second."""
        with self._lock:
            last = next((one for one in reversed(self.writes) if one["outcome"] == "ok"), None)
        return last["who"] if last and last["at"] > time.monotonic() - 1 else ""


class _Writes(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Resource)
        try:
            for line in self.rfile:
                token, who = line.decode().split()
                self.wfile.write(f"{self.server.write(int(token), who)}\n".encode())
        except OSError:
            pass  # it was killed


class Run:
    """One seed."""

    def __init__(self, network: Network, directory: Path, seed: int, kinds: list[str],
                 pace: float) -> None:
        """`pace` is how much longer than usual faults last, and the rest between them."""
        self._network, self._directory = network, directory
        self._seed, self._kinds, self._pace = seed, kinds, pace
        self._told = directory / "history"
        self._told.mkdir()
        keys = make_keys(directory / "fleet")
        self._hosts = [Host(network, number, directory, self._told, keys, is_elsewhere(seed))
                       for number in range(HOSTS)]
        self._servers = [f"nats://{network.address(number)}:{network.ports(number)[0]}"
                         for number in range(HOSTS)]
        self._own: list[dict[str, Any]] = []

    def write(self, op: str, **facts: Any) -> None:
        """A record of the driver's own."""
        self._own.append({"op": op, "at": time.monotonic(), "who": "driver", **facts})

    def history(self) -> list[dict[str, Any]]:
        """All that was written down; a last line that a kill cut short is none."""
        found = [*self._own, *self._resource.writes]
        for path in self._told.glob("*.jsonl"):
            lines = path.read_text().split("\n")
            found += [json.loads(line) for line in lines[:-1]]
        return found

    def __call__(self) -> list[dict[str, Any]]:
        """Run it; returns the history."""
        with ExitStack() as stack:
            self._resource = stack.enter_context(Resource(self._told / "resource"))
            threading.Thread(target=self._resource.serve_forever, daemon=True).start()
            stack.callback(self._resource.shutdown)
            stack.callback(self._write_logs)
            for host in self._hosts:
                stack.callback(host.close)
                host.begin_nats()
            self._make_streams()
            for host in self._hosts:
                host.begin_daemon()
            for host in self._hosts:
                host.wait_serving()
            wait_for("a holder", self._resource.holder)
            time.sleep(self._pace * REST)
            faults = Faults(self._network, self._hosts, self.write, self._seed,
                            self._resource.holder, self._pace)
            faults.run(self._kinds, self._pace * REST)
            self._finish()
        return self.history()

    # -- the begin and the end

    def _make_streams(self) -> None:
        wait_for("NATS is well", lambda: all(host.is_well() for host in self._hosts))
        asyncio.run(self._make())

    async def _make(self) -> None:
        """Until it is done: a cluster that forms loses requests, or has no leader for them."""
        import nats
        from nats.js.api import ConsumerConfig

        client = await nats.connect(self._servers)
        js, ends = client.jetstream(timeout=2), time.monotonic() + PATIENCE
        while True:
            try:
                await js.add_stream(name="ORDERS", subjects=["orders.>"], num_replicas=HOSTS)
                await js.add_consumer("ORDERS", ConsumerConfig(
                    durable_name="billing", filter_subject="orders.>", ack_wait=ACK_WAIT))
                break
            except (nats.errors.Error, OSError):
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.2)
        await client.close()

    def _finish(self) -> None:
        """End the load, and see what there is when all is quiet."""
        (self._told / "over").touch()
        there = [f"{host.name}-{pid}" for host in self._hosts for pid in host.workers()]
        self._try("the end of the load", lambda: all(
            Counter(one["who"] for one in self.history() if one["op"] == "done")[who] == LOADS
            for who in there))
        self._try("every message", lambda: not judge.messages(self.history()))
        self.write("final", there=there, **asyncio.run(self._state()))
        self._try("every watch", lambda: not judge.watches(
            sorted(self.history(), key=lambda one: float(one["at"]))))

    def _try(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for it; what does not come is for the checker to say."""
        try:
            wait_for(what, done, 40)
        except TimeoutError as error:
            print(f"    {error}")

    async def _state(self) -> dict[str, Any]:
        store = open_shared({"url": ",".join(self._servers), "bucket": "partition",
                             "deadline": 10.0}, self._directory)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:  # NATS may still elect
                    try:
                        counter, register = await store.get("counter"), await store.get("register")
                    except SharedDownError:
                        await asyncio.sleep(0.2)
                    else:
                        break
        finally:
            await store.close()
        assert counter is not None and register is not None
        return {"counter": int(counter.value), "revision": register.revision,
                "value": register.value.decode()}

    def _write_logs(self) -> None:
        for host in self._hosts:
            (host.directory / "daemon.log").write_text("\n".join(host.logs))


def is_elsewhere(seed: int) -> bool:
    """Whether daemons use the NATS of other hosts only."""
    return seed % 2 == 0


def figures(history: list[dict[str, Any]]) -> dict[str, Any]:
    """What is told of a run, beside its faults."""
    history.sort(key=lambda one: float(one["at"]))
    delivered = Counter(one["id"] for one in judge.of(history, "deliver"))
    looks = [one for one in judge.of(history, "look") if one["gone"]]
    failed = Counter(one["op"] for one in judge.of(history, *judge.LIMITS)
                     if one["outcome"] not in ("ok", "RevisionError"))
    return {
        "acknowledged": sum(1 for _ in judge.of(history, "publish", ok=True)),
        "twice": sum(count - 1 for count in delivered.values()),
        "holders": len({one["token"] for one in judge.of(history, "write", ok=True)}),
        "refused": sum(one["outcome"] == "stale" for one in judge.of(history, "write")),
        "swaps": sum(1 for _ in judge.of(history, "swap", ok=True)),
        "sums": sum(1 for _ in judge.of(history, "incr", ok=True)),
        "reads": sum(1 for _ in judge.of(history, "read", ok=True)),
        "stale": judge.stale(history),
        "errors": sum(failed.values()),
        "late": f"{max((over for _, over in judge.overruns(history)), default=0.0):.2f}",
        "silent": f"{longest(judge.of(history, 'publish', ok=True)):.1f}",
        "unheld": f"{longest(judge.of(history, 'write', ok=True)):.1f}",
        "named": f"{max((one['took'] for one in looks), default=0.0):.2f}",
        "exactly": f"{max((since for since in exactly(looks)), default=0.0):.1f}",
        "healed": f"{max((one['took'] for one in judge.of(history, 'healed')), default=0.0):.1f}",
    }


def told(history: list[dict[str, Any]]) -> list[str]:
    """How soon who is gone was named, and how late calls ended, of any number of runs."""
    took = sorted(one["took"] for one in judge.of(history, "look") if one["gone"])
    over = {limit: sum(one > limit for one in took) for limit in (1.5, judge.NAMED)}
    lines = [f"named who is gone: {len(took)} looks, median {took[len(took) // 2]:.2f} s, longest "
             f"{took[-1]:.2f} s; " + ", ".join(
                 f"{count} over {limit:g} s" for limit, count in over.items())] if took else []
    late = sorted(judge.overruns(history), key=lambda each: -each[1])
    failed = [over for one, over in late if one["outcome"] not in ("ok", "RevisionError")]
    lines.append(f"{len(late)} calls, of which {len(failed)} failed; after their deadline ended "
                 + ", ".join(f"{sum(over > least for _, over in late)} by more than {least:g} s"
                             for least in (0.1, 0.5, judge.SLACK)))
    return lines + [f"    {one['op']} of {one['who']}: {over:+.2f} s, {one['outcome']}"
                    for one, over in late[:3]]


def longest(records: Iterable[judge.Record]) -> float:
    """Seconds between two of them, at most."""
    return max((b["at"] - a["at"] for a, b in pairwise(records)), default=0.0)


def exactly(looks: list[dict[str, Any]]) -> list[float]:
    """Seconds from each fault until a shell named what was gone, and nobody else."""
    return [one["since"] for one in looks if one["named"] and not one["accused"]]


def one_run(network: Network, seed: int, kinds: list[str], pace: float, keep: str) -> tuple[
        list[dict[str, Any]], list[str]]:
    """The history and the faults of one seed."""
    with tempfile.TemporaryDirectory(prefix="apihour-partition-") as place:
        run = Run(network, Path(place), seed, kinds, pace)
        faults: list[str] = []
        try:
            run()
        except Exception as error:  # its history is judged all the same
            faults.append(f"broken off: {error!r}"[:2000])
        finally:
            history = run.history()
            if keep:
                keep_all(Path(place), Path(keep) / str(seed), history)
    return history, faults + judge.check(history)


def keep_all(place: Path, kept: Path, history: list[dict[str, Any]]) -> None:
    """Copy what a run has left: its history and its logs."""
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(place, kept, ignore=shutil.ignore_patterns("resource", "data", "keys", "id"))
    (kept / "history.json").write_text("\n".join(map(json.dumps, history)))


def main() -> None:
    """Run it and print the table; exits with 1 when a run has a fault."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--faults", default=",".join(KINDS))
    parser.add_argument("--loopback", action="store_true", help="no namespaces")
    parser.add_argument("--keep", default="", help="where histories and logs are left")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = options.faults.split(",")
    if wrong := set(kinds) - set(KINDS):
        parser.error(f"--faults: {min(wrong)!r}; expected of {', '.join(KINDS)}")
    is_inside = not options.loopback and enter_namespace()
    if options.quick:
        judge.SLACK = 5.0  # among other tests on a machine that is busy with them
    rows, whole, is_broken, pace = [], list[dict[str, Any]](), False, 0.4 if options.quick else 1.0
    with Namespaces(HOSTS) if is_inside else Loopback(HOSTS) as network:
        print(f"{interpreter()}; {HOSTS} hosts, {network.kind}", flush=True)
        for seed in range(options.first, options.first + options.seeds):
            began = time.monotonic()
            history, faults = one_run(network, seed, kinds, pace, options.keep)
            found, whole = figures(history), whole + history
            rows.append([seed, f"{time.monotonic() - began:.0f}", *found.values(), len(faults)])
            print(f"seed {seed}: {found}", *faults, sep="\n    ", flush=True)
            is_broken = is_broken or bool(faults)
        print(f"load {os.getloadavg()[1]:.0f}", *told(whole), sep="\n")
        print(table(["seed", "seconds", *found, "faults"], rows))
    sys.exit(int(is_broken))


if __name__ == "__main__":
    main()
