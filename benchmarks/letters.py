"""Commands that act, on three hosts whose letters are lost, doubled, late, and whose parts die.

How to run (about ten minutes)::

    .venv/bin/python benchmarks/letters.py [--seeds 10] [--rounds 12] [--first 1] [--calm]
        [--keep DIRECTORY]

Three daemons with a shell each, one NATS, and between each daemon and NATS a link that takes single
letters apart (``letters_proxy.py``). A round is one or two operators (OpenSSH) who have something
done on one or two hosts, ``reload --fleet``, ``reload``, ``upgrade``, ``scale``, ``restart``,
``drain``, ``jobs run`` or a command of the application, and some faults of the seed: letters that
are lost, doubled, late, in another order; a link that is silent, half closed or cut; ``kill -9`` or
SIGSTOP of a console, an arbiter, a worker, NATS, on either side. Then all is healed, and what the
shell said is compared with what the hosts have written down:

- nothing is done twice, and nothing after its ticket's time;
- done (exit status 0) has happened, failed (1) has not, else it is not known (75);
- who lives is not named as gone where single letters were lost only;
- no shell takes longer than it says; descriptors, memory and logs stay bounded.

``--calm`` leaves out what kills, so that consoles grow old. Exit status 1 when a round has a fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import arguments, interpreter, memory, table
from letters_hosts import NATS, Deed, Host
from letters_proxy import Letter, Links, Rates
from partition_hosts import make_keys, wait_for

HOSTS = ("web-1", "web-2", "web-3")
TICKET = 6.0  # seconds: a ping and the five of a ticket
TWICE = re.compile(r"Traceback|Exception in|never retrieved|was destroyed")
GONE = "no answer in time"


class Run:
    """One seed."""

    def __init__(self, directory: Path, seed: int, rounds: int, calm: bool) -> None:
        self.directory, self.seed, self.rounds, self.calm = directory, seed, rounds, calm
        self.random = random.Random(seed)
        self.nats = NATS(directory)
        self.faults: list[str] = []
        self.tally: Counter[str] = Counter()
        self.longest = 0.0
        self.stopped: list[tuple[float, int]] = []
        self.pending: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> None:
        """Run it."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.nats.end)
            self.nats.begin()
            self.links = stack.enter_context(Links(("127.0.0.1", self.nats.port), self.seed))
            keys = make_keys(self.directory / "fleet")
            self.hosts = {name: Host(name, self.directory, keys, self.links.open(name))
                          for name in HOSTS}
            for host in self.hosts.values():
                stack.callback(host.close)
                host.begin()
            stack.callback(self._thaw)
            self.heal()
            self.heal()
            before = {name: self.sizes(name) for name in HOSTS}
            subscriptions = self.nats.subscriptions()
            for number in range(self.rounds):
                self.round(number)
            time.sleep(3)
            for name in HOSTS:
                self.compare(name, before[name], self.sizes(name))
            if (after := self.nats.subscriptions()) > subscriptions:
                self.fault(f"{subscriptions} subscriptions of NATS before, {after} after")
            for host in self.hosts.values():
                (host.directory / "daemon.log").write_text("\n".join(host.log()))

    # -- one round

    def round(self, number: int) -> None:
        """Commands, faults, and what came of them."""
        self.number = number
        mark = {name: len(host.log()) for name, host in self.hosts.items()}
        count = {name: len(host.audit()) for name, host in self.hosts.items()}
        lines = {name: len(host.deeds.read_text().splitlines())
                 for name, host in self.hosts.items()}
        self.since = len(self.links.letters)
        deeds = [self.deed(number, user) for user in
                 ("ann", "bob")[:1 + (self.random.random() < 0.4)]]
        self.gentle, self.told = True, []
        self.killed: set[str] = set()
        self.plan(deeds)
        began = time.monotonic()
        running = []
        for deed in deeds:
            deed.began, deed.clock = time.monotonic(), time.time()
            running.append((deed, self.hosts[deed.at].ssh(deed.user, *deed.words)))
        while running:
            self.play(began)
            for pair in list(running):
                deed, process = pair
                if process.poll() is None and time.monotonic() < deed.began + deed.limit + 15:
                    continue
                if process.poll() is None:
                    self.fault(f"{deed} has no end within {deed.limit + 15:g} s")
                    process.kill()
                out, deed.said = process.communicate()
                deed.took, deed.status = time.monotonic() - deed.began, process.returncode
                with contextlib.suppress(ValueError):
                    deed.rows = [row for row in json.loads(out or "[]") if isinstance(row, dict)]
                running.remove(pair)
            time.sleep(0.01)
        self.links.on_letter.clear()
        self.pending.clear()
        self.heal()
        self.judge(deeds, mark, count, lines)

    def deed(self, number: int, user: str) -> Deed:
        """What an operator wants, at random."""
        choose = self.random.choice
        at = choose(HOSTS)
        others = [name for name in HOSTS if name != at]
        hosts = tuple(sorted(self.random.sample(HOSTS, 2) if self.random.random() < 0.25
                             else [choose(others)]))
        token = f"{user}-{self.seed}-{number}"
        word = choose(("fleet", "fleet", "reload", "reload", "scale", "scale", "restart", "drain",
                       "jobs", "bump", "bump", "quick", "upgrade"))
        words = {"upgrade": ("upgrade",), "scale": ("scale", str(choose((1, 2, 3)))),
                 "restart": ("restart", "1"),
                 "drain": ("drain", "1", "--yes"), "jobs": ("jobs", "tick", "run"),
                 "bump": ("bump", token), "quick": ("quick", token)}.get(word, ("reload",))
        if word == "fleet":
            return Deed(user, at, ("reload", "--fleet"), HOSTS, 150.0)
        limit = {"reload": 60.0, "upgrade": 60.0, "restart": 60.0, "bump": 14.0}.get(word, 9.0)
        return Deed(user, at, (*words, "--host", ",".join(hosts)), hosts, limit)

    def plan(self, deeds: list[Deed]) -> None:
        """The faults of this round."""
        if self.random.random() < 0.25:
            self.tally["storm"] += 1
            self.gentle = False
            self.told.append("storm")
            for link in self.links.links.values():
                link.rates = Rates(0.15, 0.3, 0.4, self.random.choice((0.1, 0.5, 2.0)))
        for _ in range(self.random.choice((1, 1, 2, 3, 4))):
            self.plan_one(self.random.choice(deeds))

    def plan_one(self, deed: Deed) -> None:
        chance = self.random
        side = chance.choice((deed.at, chance.choice(deed.hosts)))
        link = self.links.links[side]
        kind = chance.choice(("lose", "lose", "rates", "rates", "silent", "cut", "half", "kill",
                              "stop", "nats"))
        if self.calm and kind in ("kill", "nats"):
            kind = "lose"
        self.tally[kind] += 1
        if kind == "lose":
            what = chance.choice(("ask", "answer", "ping", "here", "how", "state", "claim", "may"))
            ways = ("sent", "come")
            link.losing.append((chance.choice(ways), what))
            self.told.append(f"lose {link.losing[-1]} at {side}")
            return
        if kind == "rates":
            pick = chance.choice(("loss", "double", "delay"))
            link.rates = Rates(**{pick: chance.choice((0.2, 0.4, 0.6))}, late=chance.choice(
                (0.05, 0.3, 1.5)) if pick != "loss" else 0.0)
            self.gentle = self.gentle and pick == "double"
            self.told.append(f"{link.rates} at {side}")
            return
        self.gentle = False
        action, told = self.action(kind, side)
        self.told.append(told)
        if chance.random() < 0.85:  # as a letter passes
            what, after = chance.choice(("ask", "ask", "ping", "how", "answer")), chance.choice(
                (0.0, 0.0, 0.02, 0.1, 0.5))
            self.told[-1] += f" {after} s after {what}"
            once: list[Letter] = []

            def hear(letter: Letter) -> None:
                if letter.kind == what and not once:
                    once.append(letter)
                    self.pending.append((time.monotonic() + after, action))
            self.links.on_letter.append(hear)
        else:
            when = chance.uniform(0.2, 1.5)
            self.told[-1] += f" after {when:.1f} s"
            self.pending.append((time.monotonic() + when, action))

    def action(self, kind: str, side: str) -> tuple[Callable[[], None], str]:
        chance, link, host = self.random, self.links.links[side], self.hosts[side]
        seconds = chance.choice((0.2, 0.5, 1.0, 2.0, 5.0))
        if kind == "silent":
            ways = chance.choice((("sent",), ("come",), ("sent", "come")))

            def silent() -> None:
                for way in ways:
                    link.silent[way] = time.monotonic() + seconds
            return silent, f"silent {ways} {seconds} s at {side}"
        if kind == "cut":
            return lambda: self.links.cut(side), f"cut at {side}"
        if kind == "half":
            way = chance.choice(("sent", "come"))
            return lambda: self.links.half_close(side, way), f"half close {way} at {side}"
        if kind == "nats":
            is_kill = chance.random() < 0.5

            def nats() -> None:
                if is_kill:
                    self.nats.end()
                    self.pending.append((time.monotonic() + seconds, self.nats.begin))
                elif self.nats.process is not None:
                    self.stop(self.nats.pid, seconds)
            return nats, f"nats {'killed' if is_kill else 'stopped'} {seconds} s"
        what = chance.choice(("console", "console", "arbiter", "worker", "worker"))

        def hurt() -> None:
            with contextlib.suppress(ProcessLookupError, LookupError):
                if pid := host.pid_of(what):
                    if kind == "kill":
                        self.killed |= {f"{what} {side}"}
                        os.kill(pid, signal.SIGKILL)
                    else:
                        self.stop(pid, seconds)
        return hurt, f"{kind} {what} {seconds if kind == 'stop' else ''} at {side}"

    def stop(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append((time.monotonic() + seconds, pid))

    def play(self, began: float) -> None:
        """Do what is due."""
        now = time.monotonic()
        for one in [one for one in self.pending if one[0] <= now]:
            self.pending.remove(one)
            one[1]()
        for each in [each for each in self.stopped if each[0] <= now]:
            self.stopped.remove(each)
            with contextlib.suppress(ProcessLookupError):
                os.kill(each[1], signal.SIGCONT)

    def _thaw(self) -> None:
        for _, pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()

    def heal(self) -> None:
        """All links, processes and hosts are well again, and know one another."""
        self._thaw()
        self.links.heal()
        if self.nats.process is None:
            self.nats.begin()
        for host in self.hosts.values():
            host.begin()
        for host in self.hosts.values():
            wait_for(f"{host.name}'s workers", lambda host=host: host.daemon.workers("serving"))
            outcome = host.daemon.request("scale", count=2)  # told apart in the log
            assert outcome.ok, outcome
            host.daemon.request("undrain", worker="all")
            wait_for(f"{host.name}'s two workers", lambda host=host: (
                len(host.daemon.workers()) == 2 == len(host.daemon.workers("serving"))))
        for host in self.hosts.values():
            wait_for(f"the fleet at {host.name}", lambda host=host: self.is_whole(host), 60)

    def is_whole(self, host: Host) -> bool:
        process = host.ssh("healer", "hosts")
        out, _ = process.communicate(timeout=60)
        try:
            return process.returncode == 0 and len(json.loads(out)) == len(HOSTS)
        except ValueError:
            return False

    # -- what came of it

    def fault(self, what: str) -> None:
        self.faults.append(f"seed {self.seed} round {self.number}: {what}; {self.told}")
        print(f"    FAULT {self.faults[-1]}", flush=True)

    def judge(self, deeds: list[Deed], mark: dict[str, int], count: dict[str, int],
              lines: dict[str, int]) -> None:
        """Compare what was said with what was done."""
        for deed in deeds:
            self.longest = max(self.longest, deed.took)
            self.tally[f"status {deed.status}"] += 1
            if deed.took > deed.limit:
                self.fault(f"{deed} took {deed.took:.1f} s")
            if self.gentle and GONE in deed.said:
                self.fault(f"{deed} names who lives")
            if deed.status not in (0, 1, 75, 255):
                self.fault(f"{deed}: its status")
        for name, host in self.hosts.items():
            log = host.log()[mark[name]:]
            for line in log:
                if TWICE.search(line):
                    self.fault(f"{name}: {line}")
            if len(log) > 120:
                self.fault(f"{name}: {len(log)} lines in its log")
            audit = [one for one in host.audit()[count[name]:]
                     if one["event"] == "command" and " via " in one["address"]]
            noted = [line.split() for line in host.deeds.read_text().splitlines()[lines[name]:]]
            self.judge_host(name, deeds, log, audit, noted)

    def judge_host(self, name: str, deeds: list[Deed], log: list[str],
                   audit: list[dict[str, Any]], noted: list[list[str]]) -> None:
        for word in ("reload", "upgrade", "scale", "jobs", "bump", "quick", "drain", "restart"):
            mine = [deed for deed in deeds if name in deed.hosts and word in (
                deed.words[0], "jobs" if deed.words[0] == "jobs" else "")]
            said = Counter(deed.verdict(name) for deed in mine)
            tokens = {deed.words[1] for deed in mine} if word in ("bump", "quick") else {
                "tick"} if word == "jobs" else set()
            times = [float(one[1]) for one in noted if one[0] in tokens]
            done = len(times) if tokens or word in ("bump", "quick", "jobs") else len(
                Counter(line.partition("Command: ")[2] for line in log
                        if f"Command: {word} worker='" in line)
                or [line for line in log if f"Command: {word} " in line
                    and "count=" not in line])
            if word == "drain":  # of two generations in one slot both are drained
                done = min(done, max(said["done"], 1)) if done else 0
            for verdict, number in said.items():
                self.tally[verdict] += number
            least = said["done"]
            most = said["done"] + said["unknown"] + (
                said["failed"] if word not in ("bump", "quick", "jobs", "scale") else 0)
            if not least <= done <= most and not (word == "jobs" and done < least):
                self.fault(f"{name}: {word}: {dict(said)} said, {done} done: {mine}")
            for deed in mine:
                late = max((at - deed.clock for at in times), default=0.0)
                if late > TICKET + 1.5 and word != "jobs":
                    self.fault(f"{name}: {deed} done after {late:.1f} s")
                found = [one for one in audit if one["user"] == deed.user and one["status"] == 0
                         and one["command"].split()[0] == word]
                if len(found) > 1:
                    self.fault(f"{name}: {deed} carried out {len(found)} times: {found}")

    # -- what grows

    def sizes(self, name: str) -> tuple[int, int, float]:
        """The console's pid, its descriptors, and its own memory in MB."""
        pid = self.hosts[name].console()
        return pid, len(os.listdir(f"/proc/{pid}/fd")), memory(pid)["uss"]

    def compare(self, name: str, before: tuple[int, int, float], after: tuple[int, int, float],
                ) -> None:
        print(f"    {name}: {after[1]} descriptors ({before[1]} before), own memory {after[2]:.1f} "
              f"MB ({before[2]:.1f}){', the same console' * (before[0] == after[0])}", flush=True)
        if after[1] > before[1] + 4:
            self.fault(f"{name}: descriptors of its console: {before[1]} before, {after[1]} after")
        if before[0] == after[0] and after[2] > before[2] + 12:
            self.fault(f"{name}: memory of its console: {before[2]:.0f} MB, then {after[2]:.0f}")


def main() -> None:
    """Run it; exits with 1 when a round has a fault."""
    parser = arguments(__doc__, rounds=12)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--calm", action="store_true", help="nothing is killed")
    parser.add_argument("--keep", default="", help="where logs are left")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(interpreter(), flush=True)
    rows, faults = [], 0
    for seed in range(options.first, options.first + options.seeds):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="apihour-letters-") as place:
            run = Run(Path(place), seed, options.rounds, options.calm)
            try:
                run()
            finally:
                if options.keep:
                    shutil.copytree(place, Path(options.keep) / str(seed), dirs_exist_ok=True,
                                    ignore=shutil.ignore_patterns("id", "keys"))
                    with (Path(options.keep) / str(seed) / "letters").open("w") as file:
                        file.writelines(f"{one}\n" for one in run.links.letters)
        rows.append([seed, options.rounds, f"{time.monotonic() - began:.0f}",
                     len(run.links.letters),
                     sum(link.dropped for link in run.links.links.values()),
                     *(run.tally[name] for name in ("done", "failed", "nothing", "unknown")),
                     f"{run.longest:.1f}", len(run.faults)])
        faults += len(run.faults)
        print(f"seed {seed}: {dict(run.tally)}", flush=True)
    print(table(["seed", "rounds", "seconds", "letters", "lost", "done", "failed", "nothing",
                 "unknown", "longest", "faults"], rows))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
