"""Random signals and deaths under load: nothing may be lost, left over, or unexplained.

How to run (twenty seeds of a minute in each of four modes take 90 minutes)::

    .venv/bin/python benchmarks/chaos.py [--seeds 20] [--first 1] [--seconds 60]
        [--modes plain,template,reuse_port,template+reuse_port] [--keep]

Each run starts a daemon (HTTP, TCP and UDP, with console and health), loads it, and picks at
random: HUP, USR1, USR2, TTIN, TTOU to the arbiter; HUP, USR1, USR2, TTIN, TTOU and WINCH to
the whole process group; SIGKILL to any child (workers that start, serve or drain, the console,
the template, a probe, an upgrade's new arbiter); a deploy, good or bad. Then it is left alone,
must come to rest, and is looked at:

- no request lost, but for those on connections that a killed process held (they are counted);
- the wanted number of workers, each serving;
- no process that belongs to nobody, no descriptor or file more than at the start;
- no "Unhandled exception" and no traceback in the log; and nothing at all after its end.

A seed that fails is repeated by ``--first SEED --seeds 1 --modes MODE``; ``--keep`` prints its
log. Exit status 1 when any has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from _bench import HERE, arguments, table
from chaos_load import Clients, Killed, peers_of

from apihour.ipc.daemons import scoreboards
from apihour.ipc.scoreboard import Figure, Scoreboard
from apihour.testing import Daemon
from apihour.testing.processes import is_running

MODES = ("plain", "template", "reuse_port", "template+reuse_port")
OPTIONS = ("--boot-timeout", "20", "--linger", "2", "--health", "127.0.0.1:0")
GROUP = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
         signal.SIGWINCH)
MOST_WORKERS = 4
REST = 60.0  # seconds in which it must come to rest
BAD = ("import not_installed\n", "def broken(:\n", "raise SystemExit(3)\n")


class Chaos:
    """One run against one daemon."""

    def __init__(self, mode: str, seed: int) -> None:
        self.mode, self.seed = mode, seed
        self.random = random.Random(f"{mode} {seed}")
        self.directory = Path(tempfile.mkdtemp(prefix="apihour-chaos-"))
        shutil.copy(HERE / "load" / "chaos_app.py", self.directory)
        self.release = 1
        self.is_bad = False
        self.deploy()
        reuse = [word for name, bind in (("http", ""), ("echo", ""), ("udp", "udp://"))
                 for word in ("-b", f"{name}={bind}127.0.0.1:0?reuse_port")]
        self.daemon = Daemon(
            "chaos_app:Container", *OPTIONS, *(reuse if "reuse_port" in mode else ()),
            *(("--template",) if "template" in mode else ()), cwd=self.directory, console=True,
            timeout=REST, env={"GUNICORN_CMD_ARGS": None})
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []

    # -- what happens --------------------------------------------------------------------------

    def deploy(self, text: str | None = None) -> None:
        """Replace the release at once."""
        temporary = self.directory / "release.new"
        temporary.write_text(text or f"RELEASE = {self.release}\n")
        temporary.rename(self.directory / "release.py")

    def step(self) -> None:
        """One thing, at random."""
        name = self.random.choice(["signal", "signal", "group", "kill", "kill", "deploy", "bad"])
        if name == "deploy":
            self.release += 1
            self.deploy()
            self.is_bad = False
            self.send(signal.SIGHUP)
        elif name == "bad":
            text = self.random.choice(BAD)
            # Without a template what is killed starts anew from this code: while it cannot
            # start at all, somebody must serve.
            self.is_bad = "template" in self.mode or len(self.daemon.workers("serving")) > 1
            self.deploy(text if self.is_bad else None)
            self.send(signal.SIGHUP)
        elif name == "kill":
            self.kill()
        elif name == "group":
            self.send(self.random.choice(GROUP), group=True)
        else:
            self.send(self.random.choice([*GROUP[:-1], signal.SIGTTIN, signal.SIGTTOU]))

    def send(self, sig: signal.Signals, group: bool = False) -> None:
        """To the arbiter, or to all; more workers than the machine can run are not asked for."""
        if sig is signal.SIGTTIN and self.figure(Figure.WANTED) >= MOST_WORKERS:
            sig = signal.SIGTTOU
        if group:
            assert self.daemon.process is not None
            for member in (self.daemon.process.pid, self.daemon.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(os.getpgid(member), sig)
                    break
        else:
            os.kill(self.daemon.pid, sig)
        self.done[f"{'group ' * group}{sig.name}"] += 1

    def kill(self) -> None:
        """SIGKILL one process of the daemon that is not its arbiter."""
        arbiter = self.daemon.pid
        children = sorted(self.daemon.processes() - {arbiter})
        if not children:
            return
        pid = self.random.choice(children)
        if self.is_bad and len(self.daemon.workers("serving")) <= 1:
            self.deploy()  # as whoever deployed it would, before the last worker is gone
            self.is_bad = False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            until = time.monotonic() + 5.0
            while is_running(pid) and state_of(pid) != "T" and time.monotonic() < until:
                time.sleep(0.001)
            if self.daemon.pid == arbiter and pid != arbiter and parent_of(arbiter) != pid:
                kind = self.kind_of(pid)
                self.clients.killed.append(Killed(time.monotonic(), pid, peers_of(pid)))
                os.kill(pid, signal.SIGKILL)
                self.done[f"kill {kind}"] += 1
            else:  # an upgrade went through meanwhile: this is the arbiter now
                os.kill(pid, signal.SIGCONT)

    # -- the run ---------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """All of it; what is wrong is in `faults`."""
        try:
            with self.daemon:
                asyncio.run(self._run(seconds))
                log = self.daemon.log
                self.daemon.terminate()
                left = [str(path) for path in self.daemon.directory.rglob("*")
                        if not path.name.startswith("apihour-")]
                self.expect(not left, f"left after the end: {left}")
                for word in ("Unhandled exception", "Traceback (most", "Exception in"):
                    self.expect(word not in _without_bad(log), f"{word!r} in the log")
        except AssertionError as error:
            self.faults.append(str(error))
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def expect(self, condition: object, fault: str) -> None:
        if not condition:
            self.faults.append(fault)

    async def _run(self, seconds: float) -> None:
        daemon = self.daemon
        await asyncio.to_thread(self.wait_rest)
        addresses = {name: ("127.0.0.1", daemon.port(name)) for name in ("http", "echo", "udp")}
        before = await self.warm_up(Clients(addresses, self.seed))
        self.clients = Clients(addresses, self.seed)
        self.clients.start()
        await asyncio.sleep(0.3)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.to_thread(self.step)
            await asyncio.sleep(self.random.uniform(0.02, 0.6))
        self.deploy()
        try:
            await asyncio.to_thread(self.heal)
        finally:
            await self.clients.stop()
        for kind, fates in self.clients.fates.items():
            self.expect(fates.ok > 10, f"{kind}: {fates.ok} answered only")
            self.expect(not fates.lost, f"{len(fates.lost)} {kind} lost:\n    "
                        + "\n    ".join(fates.lost[:5]))
        await asyncio.to_thread(self.compare, before)

    async def warm_up(self, clients: Clients) -> dict[str, Counter[str]]:
        """What there is once everything that is done on first use has been done."""
        self.expect(await asyncio.to_thread(self.daemon.upgrade), "the first upgrade failed")
        for workers in (MOST_WORKERS, 2):  # sockets of reuse_port slots stay
            self.expect(await asyncio.to_thread(self.daemon.scale, workers), "a scale failed")
            self.expect(await asyncio.to_thread(self.daemon.reload), "a first reload failed")
        await asyncio.to_thread(self.wait_rest)
        clients.start()
        await asyncio.sleep(0.5)
        await clients.stop()
        await asyncio.sleep(1.0)
        return self.inventory()

    def heal(self) -> None:
        """Left alone, whatever is under way ends; then as many workers as at the start."""
        daemon = self.daemon
        daemon.wait(lambda: daemon.reload().ok, "a reload that goes through")
        daemon.wait(lambda: daemon.request("scale", workers=2).ok, "a scale that goes through")
        self.wait_rest()
        self.expect(daemon.reload().ok, "the last reload was refused")
        self.wait_rest()

    def is_at_rest(self) -> bool:
        workers = self.daemon.workers()
        return (
            len(workers) == len(self.daemon.workers("serving")) == self.figure(Figure.WANTED)
            and len({worker.generation for worker in workers}) == 1
            and len(scoreboards(self.daemon.runtime)) == 1
            and self.daemon.runtime.console_socket.exists()
            and len(self.daemon.processes()) == self.expected_processes(len(workers))
        )

    def wait_rest(self) -> None:
        try:
            self.daemon.wait(self.is_at_rest, "rest")
            time.sleep(0.5)  # the console's own connections to what is new
            self.daemon.wait(self.is_at_rest, "rest")
        except AssertionError as error:
            shown = [f"{pid} {self.kind_of(pid)}" for pid in sorted(self.daemon.processes())]
            raise AssertionError(f"no rest: workers {self.daemon.workers()}, "
                                 f"wanted {self.figure(Figure.WANTED)}, "
                                 f"processes {shown}") from error

    def expected_processes(self, workers: int) -> int:
        return 2 + workers + ("template" in self.mode)

    # -- looking ---------------------------------------------------------------------------------

    def figure(self, which: Figure) -> float:
        with contextlib.suppress(OSError, LookupError, ValueError):
            board = Scoreboard.open(str(self.daemon.runtime.scoreboard(self.daemon.pid)))
            try:
                return board.figure(which)
            finally:
                board.close()
        return 0.0

    def kind_of(self, pid: int) -> str:
        """What a process of the daemon is."""
        if pid == self.daemon.pid:
            return "arbiter"
        if pid == self.figure(Figure.TEMPLATE):
            return "template"
        states = {worker.pid: worker.state for worker in self.daemon.workers()}
        if pid in states:
            return f"worker {states[pid]}"
        with contextlib.suppress(OSError):
            if b"apihour_console" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return "console"
        return "probe, or new arbiter"

    def inventory(self) -> dict[str, Counter[str]]:
        """Files of the runtime directory, and descriptors of each kind of process."""
        found = {"files": Counter(_kind(path.name) for path in self.daemon.runtime.path.rglob("*"))}
        for pid in self.daemon.processes():
            kind = self.kind_of(pid)
            kinds: Counter[str] = Counter()
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kinds[_kind(os.readlink(f"/proc/{pid}/fd/{entry}"))] += 1
            found[kind] = found.get(kind, Counter()) | kinds
        return found

    def compare(self, before: dict[str, Counter[str]]) -> None:
        """What is there now beside what was there at the start; a moment is allowed."""
        until = time.monotonic() + REST / 4
        while True:
            now = self.inventory()
            more = {where: now.get(where, Counter()) - before.get(where, Counter())
                    for where in before | now}
            more = {where: kinds for where, kinds in more.items() if kinds}
            if not more or time.monotonic() > until:
                break
            time.sleep(0.2)
        self.expect(not more, f"leaked: {({w: dict(k) for w, k in more.items()})}"
                    f"{self.sockets_of(more)}")

    def sockets_of(self, kinds: dict[str, Counter[str]]) -> str:
        """What the kernel says of every socket of such processes."""
        lines = []
        for pid in sorted(self.daemon.processes()):
            if (kind := self.kind_of(pid)) not in kinds:
                continue
            with contextlib.suppress(OSError):
                tables = [line for name in ("unix", "tcp", "udp")
                          for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
                for entry in os.listdir(f"/proc/{pid}/fd"):
                    target = os.readlink(f"/proc/{pid}/fd/{entry}")
                    inode = target.removeprefix("socket:[").rstrip("]")
                    if target.startswith("socket:"):
                        about = [line for line in tables if inode in line.split()]
                        lines.append(f"{kind} {pid} fd {entry} {inode}: {about}")
        return "".join(f"\n      {line}" for line in lines)


def _kind(name: str) -> str:
    """A file or descriptor without its numbers."""
    return "".join(letter for letter in name if not letter.isdigit())


def _without_bad(log: str) -> str:
    """The log without the tracebacks of the deploys that were meant to be bad."""
    lines, kept, skipping = log.splitlines(), [], False
    for line in lines:
        if "Reload refused" in line or "Upgrade failed" in line:
            skipping = True
        elif line.startswith("[20"):
            skipping = "Traceback" in line and skipping
        if not skipping:
            kept.append(line)
    return "\n".join(kept)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace")
                   .rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--keep", action="store_true", help="print the log of a failed run")
    options = parser.parse_args()
    rows, failed = [], 0
    for mode in options.modes.split(","):
        if mode not in MODES:
            parser.error(f"--modes {mode!r}: expected some of {', '.join(MODES)}")
        for seed in range(options.first, options.first + options.seeds):
            chaos = Chaos(mode, seed)
            chaos.run(options.seconds)
            fates = getattr(getattr(chaos, "clients", None), "fates", {})
            rows.append([mode, seed, sum(chaos.done.values()),
                         sum(n for name, n in chaos.done.items() if name.startswith("kill")),
                         sum(f.ok for f in fates.values()), sum(f.killed for f in fates.values()),
                         sum(len(f.lost) for f in fates.values()),
                         "; ".join(chaos.faults)[:100] or "as it should be"])
            print(f"{mode} {seed}: {dict(chaos.done)}", *chaos.faults or ["ok"], sep="\n  ",
                  file=sys.stderr, flush=True)
            if chaos.faults:
                failed += 1
                if options.keep:
                    print(chaos.daemon.log, file=sys.stderr, flush=True)
    print(table(["mode", "seed", "events", "kills", "answered", "on killed", "lost", "verdict"],
                rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
