"""What ``reload.py`` does to apihour alone: upgrades, storms, kills, stops, slow imports.

Each mode takes the seconds it may last and returns what it found, as lines of text.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from _bench import memory, table, tree
from reload_servers import ours

from apihour.testing import Daemon, Failure, Load, Report

_UPGRADES = 10
_SESSIONS, _RELOADS = 200, 20
_BURN = 2.0  # seconds of CPU that the import costs


def _loads(daemon: Daemon, timeout: float = 10.0) -> list[Load]:
    http, echo = daemon.address("http"), daemon.address("echo")
    return [
        Load("keep-alive", http, connections=10, timeout=timeout),
        Load("connection", http, connections=5, timeout=timeout),
        Load("connect-wait", http, connections=5, timeout=timeout),
        Load("tcp", echo, connections=5, timeout=timeout),
    ]


def _under(loads: list[Load], act: Callable[[], None]) -> list[Report]:
    """Run `act` while the loads run."""
    for load in loads:
        load.__enter__()
    try:
        act()
    finally:
        reports = [load.stop() for load in loads]
    return reports


def _losses(reports: list[Report]) -> str:
    return table(["lost / requests", *(r.kind for r in reports)],
                 [["apihour", *(f"{r.lost} / {r.total}" for r in reports)]])


def upgrade(seconds: float) -> str:
    """Ten binary upgrades."""
    times: list[float] = []
    with ours("apihour") as daemon:
        def act() -> None:
            for _ in range(_UPGRADES):
                time.sleep(seconds / 60)
                began = time.monotonic()
                outcome = daemon.upgrade()
                if not outcome.ok:
                    raise RuntimeError(outcome.error)
                times.append(time.monotonic() - began)

        reports = _under(_loads(daemon), act)
    return (f"{_losses(reports)}\n{_UPGRADES} upgrades, {min(times):.2f} to {max(times):.2f} s "
            "from the order to the end of the old arbiter")


def scale(seconds: float) -> str:
    """A storm of TTIN and TTOU, twenty a second."""
    rng = random.Random(1)
    most = 0
    with ours("apihour") as daemon:
        def act() -> None:
            nonlocal most
            until = time.monotonic() + seconds / 3
            while time.monotonic() < until:
                high = len(daemon.workers("serving")) >= 4
                daemon.signal(rng.choice(
                    [signal.SIGTTOU] if high else [signal.SIGTTIN, signal.SIGTTOU]))
                most = max(most, len(daemon.workers()))
                time.sleep(0.05)

        reports = _under(_loads(daemon), act)
    return f"{_losses(reports)}\nup to {most} workers at once, retiring ones included"


def kill(seconds: float) -> str:
    """kill -9 of one worker every second; every loss is looked up in what ``conns`` said."""
    rng = random.Random(1)
    kills: list[tuple[float, float, set[str]]] = []
    with ours("apihour", "--console", "127.0.0.1:0", console=True) as daemon:
        def act() -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(1.0)
                daemon.wait_ready()
                victim = rng.choice(daemon.workers("serving"))
                asked = time.monotonic()
                peers = {str(row["peer"]) for row in daemon.ask(victim, "conns").rows}
                daemon.kill(victim)
                kills.append((asked, time.monotonic(), peers))

        reports = _under(_loads(daemon), act)
    shown = since = other = 0
    for failure in (failure for report in reports for failure in report.failures):
        if any(asked <= failure.at and failure.local in peers for asked, _, peers in kills):
            shown += 1
        elif any(asked <= failure.connected <= killed + 0.1 for asked, killed, _ in kills):
            since += 1
        else:
            other += 1
    return (f"{_losses(reports)}\n{len(kills)} kills; of {shown + since + other} losses {shown} "
            f"were on connections that conns showed in the killed worker, {since} on connections "
            f"accepted since, {other} elsewhere")


def stop(seconds: float) -> str:
    """SIGSTOP of one worker until the arbiter replaces it."""
    with ours("apihour", "--timeout", "4", "--console", "127.0.0.1:0", console=True) as daemon:
        peers: set[str] = set()
        stopped: list[float] = []

        def act() -> None:
            time.sleep(2.0)
            victim = daemon.workers("serving")[0]
            asked = time.monotonic()
            peers.update(str(row["peer"]) for row in daemon.ask(victim, "conns").rows)
            daemon.stop(victim)
            stopped.extend((asked, time.monotonic()))
            daemon.wait(lambda: victim.pid not in {w.pid for w in daemon.workers()}, "its end")
            daemon.wait_ready()
            time.sleep(2.0)

        reports = _under(_loads(daemon, timeout=20.0), act)
    failures = [failure for report in reports for failure in report.failures]
    own = [f for f in failures if f.local in peers or _is_between(f, stopped)]
    return (f"{_losses(reports)}\n{len(own)} of {len(failures)} losses on the stopped worker's own "
            f"connections; {len(peers)} were open there")


def _is_between(failure: Failure, stopped: list[float]) -> bool:
    return stopped[0] <= failure.connected <= stopped[1] + 0.1


def sessions(seconds: float) -> str:
    """Long-lived TCP sessions over twenty reloads."""
    with ours("apihour", "--graceful-timeout", "120") as daemon:
        load = Load("tcp-session", daemon.address("echo"), connections=_SESSIONS,
                    think=(0.2, 0.6))
        generations = 0

        def act() -> None:
            nonlocal generations
            load.wait_answers(_SESSIONS)
            for _ in range(_RELOADS):
                outcome = daemon.reload()
                if not outcome.ok:
                    raise RuntimeError(outcome.error)
                generations = max(generations, len({w.generation for w in daemon.workers()}))
            load.wait_answers(2 * _SESSIONS)

        report, = _under([load], act)
    return (f"{report.lost} / {report.total} messages lost on {_SESSIONS} sessions over {_RELOADS} "
            f"reloads; {report.connections} connections were made, {generations} generations "
            "lived side by side")


def slow_import(seconds: float) -> str:
    """Latency while an application whose import burns CPU is reloaded with ``--surge 1``.

    The client is real-time where it may be: it stands for others' machines, and how late it is
    scheduled on this one is not the server's latency.
    """
    with ours("apihour", "--surge", "1", burn=_BURN) as daemon:
        def load() -> Load:
            return Load("keep-alive", daemon.address("http"), connections=10, think=0.01, seed=1)

        def rest() -> None:
            time.sleep(seconds / 2)

        def reload() -> None:
            if not daemon.reload().ok:
                raise RuntimeError(daemon.log)

        def reloads() -> None:
            until = time.monotonic() + seconds / 2
            while time.monotonic() < until:
                reload()

        with _real_time() as is_real_time:
            _under([load()], lambda: time.sleep(1.0))
            quiet, = _under([load()], rest)
            busy, = _under([load()], reloads)
        count = daemon.log.count("Reload done")
        # Not under the load: reading a process's pages holds that process up.
        before, peak = _memory(daemon), _peak(daemon, reload)
    rows = [
        [name, f"{r.lost} / {r.total}", *(f"{r.percentile(p) * 1000:.1f}" for p in (50, 99, 99.9)),
         f"{max(r.latencies) * 1000:.1f}"]
        for name, r in (("without reload", quiet), (f"{count} reloads", busy))
    ]
    factor = busy.percentile(99.9) / quiet.percentile(99.9)
    more = (max(busy.latencies) - max(quiet.latencies)) * 1000
    return "\n".join([
        table(["", "lost / requests", "p50 ms", "p99", "p99.9", "max"], rows),
        f"p99.9 is {factor:.1f} times that without reload (goal: 3), the maximum {more:.0f} ms "
        f"more (goal: 50); memory (PSS) of all processes {before:.0f} MB, at most {peak:.0f} MB; "
        f"the client {'ran' if is_real_time else 'could not run'} at real-time priority",
    ])


@contextlib.contextmanager
def _real_time() -> Iterator[bool]:
    """Threads started meanwhile run before all others, if that is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _memory(daemon: Daemon) -> float:
    """PSS of all its processes, in MB."""
    total = 0.0
    for pid in tree(daemon.pid):
        try:
            total += memory(pid)["pss"]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _peak(daemon: Daemon, act: Callable[[], None]) -> float:
    """The most memory while `act` runs."""
    thread = threading.Thread(target=act)
    thread.start()
    peak = 0.0
    while thread.is_alive():
        peak = max(peak, _memory(daemon))
        thread.join(0.1)
    return peak


MODES: dict[str, Callable[[float], str]] = {
    "upgrade": upgrade, "scale": scale, "kill": kill, "stop": stop, "sessions": sessions,
    "import": slow_import,
}
