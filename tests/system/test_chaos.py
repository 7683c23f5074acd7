"""Everything at once, at random, from a seed that is printed.

``APIHOUR_CHAOS_SEED`` and ``APIHOUR_CHAOS_SECONDS`` repeat a run, or make it longer.
"""

import os
import random
import signal
import time

from apihour.testing import Load
from tests.system.support import deploy, get

SECONDS = 8.0
SHOCK = 1.5  # seconds after a kill in which its connections are found to be gone
BAD = ("import not_installed\n", "def broken(:\n", "VERSION = '2'\nraise SystemExit(3)\n",
       "import apihour\nVERSION = '3'\nasync def start(self):\n    1 / 0\n"
       "apihour.Container.start = start\n")


class Chaos:
    """What may happen to a daemon; each method is one mishap, or one order of an operator."""

    def __init__(self, daemon, app, rng):
        self.daemon = daemon
        self.app = app
        self.rng = rng
        self.version = 0
        self.kills = []
        self.done = []

    def step(self):
        name, act = self.rng.choice([
            ("reload", self.reload), ("reload", self.reload), ("bad deploy", self.bad_deploy),
            ("hups", self.hups), ("count", self.count), ("kill", self.kill),
            ("stop", self.stop), ("usr1", self.usr1), ("upgrade", self.upgrade),
            ("scale", self.scale),
        ])
        self.done.append(name)
        act()

    def reload(self):
        self.version += 1
        deploy(self.app, str(self.version))
        self.daemon.reload(wait=False)

    def bad_deploy(self):
        deploy(self.app, None, text=self.rng.choice(BAD))
        since = len(self.daemon.lines)
        outcome = self.daemon.reload()
        deploy(self.app, str(self.version))
        if "under way" not in outcome.error and "no answer" not in outcome.error:
            assert not outcome.ok, self.daemon.lines[since:]

    def hups(self):
        for _ in range(self.rng.randint(2, 5)):
            self.daemon.signal(signal.SIGHUP)

    def count(self):
        for _ in range(self.rng.randint(1, 3)):
            self.daemon.signal(self.rng.choice([signal.SIGTTIN, signal.SIGTTOU]))

    def scale(self):
        self.daemon.request("scale", workers=self.rng.randint(1, 3))

    def kill(self):
        serving = self.daemon.workers("serving")
        if serving:
            worker = self.rng.choice(serving)
            self.kills.append((time.monotonic(), worker.pid))
            self.daemon.kill(worker)

    def stop(self):
        serving = self.daemon.workers("serving")
        if serving:
            pid = self.daemon.stop(self.rng.choice(serving))
            time.sleep(self.rng.uniform(0.05, 0.4))
            try:
                self.daemon.cont(pid)
            except ProcessLookupError:
                pass  # an upgrade's end may have been quicker

    def usr1(self):
        self.daemon.signal(signal.SIGUSR1)

    def upgrade(self):
        outcome = self.daemon.upgrade()
        assert outcome.ok or "under way" in outcome.error, outcome

    def explains(self, failure):
        """Whether a worker was killed just before."""
        return any(at - 0.1 <= failure.at <= at + SHOCK for at, _ in self.kills)


def test_chaos(apihour_daemon, app):
    seed = int(os.environ.get("APIHOUR_CHAOS_SEED", time.time_ns() % 100_000))
    seconds = float(os.environ.get("APIHOUR_CHAOS_SECONDS", SECONDS))
    print(f"APIHOUR_CHAOS_SEED={seed}")
    daemon = apihour_daemon("house:Container", "--boot-timeout", "20", "--linger", "2", cwd=app)
    chaos = Chaos(daemon, app, random.Random(seed))
    http, echo = daemon.address("http"), daemon.address("echo")
    loads = [
        Load("keep-alive", http, connections=3, think=(0.0, 0.05), seed=seed),
        Load("connection", http, connections=2, think=0.02, seed=seed),
        Load("connect-wait", http, connections=2, seed=seed),
        Load("tcp", echo, connections=2, seed=seed),
        Load("websocket", http, connections=2, think=(0.0, 0.05), path="/ws", seed=seed),
    ]
    for load in loads:
        load.__enter__()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            chaos.step()
            time.sleep(chaos.rng.uniform(0.05, 0.5))
        # Left alone it heals: whatever is under way ends, and all that should serve does.
        daemon.wait(lambda: daemon.reload().ok, "a reload that goes through")
        daemon.wait(lambda: len(daemon.workers()) == len(daemon.workers("serving")), "rest")
        for load in loads:
            load.wait_answers(10)
    finally:
        reports = [load.stop() for load in loads]
    story = f"seed {seed}, {chaos.done}, killed {chaos.kills}"
    for report in reports:
        unexplained = [f for f in report.failures if not chaos.explains(f)]
        assert not unexplained, f"{story}\n{unexplained}\n{report}"
        # One kill costs a client one request at most.
        assert report.lost <= 3 * len(chaos.kills), f"{story}\n{report}"
        assert report.ok > 50, f"{story}\n{report}"
    print(f"{len(chaos.done)} steps, {len(chaos.kills)} kills; "
          + ", ".join(f"{r.kind} {r.ok}+{r.told} of {r.total}" for r in reports))
    assert get(http)["version"] == str(chaos.version) or chaos.version == 0
    daemon.terminate()
    assert "Unhandled exception" not in daemon.log
