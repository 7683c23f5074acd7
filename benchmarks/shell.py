"""What the shell costs its neighbours, and how fast it is.

How to run (about six minutes; needs OpenSSH's client, and its server for one figure)::

    .venv/bin/python benchmarks/shell.py [--rounds 5] [--quick] [--only neighbours,fleet,...]

- neighbours: HTTP latency of one worker on CPU 1, while nobody is logged in and while somebody
  types, watches ``top``, profiles, pastes 100 kB, or 50 clients flood the shell with logins;
  the console and all SSH clients are on CPU 0. Each activity has its own idle time before it.
  What measures is on CPU 1 as well, where it and the worker take turns: on CPU 0 it would
  measure its own wait behind the flood. Both run with real-time priority where that is allowed,
  so that other processes of the machine are no part of the figures.
- fleet: ``workers`` (scoreboard and /proc) and ``servers`` (every agent is asked) through the
  console's local socket, over 2, 8 and 32 workers.
- connects: logins in a second with the limits off, the console on CPU 1, and OpenSSH's sshd in
  its place in the same rounds, with the same client, key exchange and cipher.
- agent: CPU and unshared memory of an idle worker with its agent, and with --no-console.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _bench import (
    HERE,
    LOAD_CPU,
    SERVER_CPU,
    Server,
    arguments,
    cpu_seconds,
    interpreter,
    median,
    memory,
    percentile,
    pinned,
    python,
    table,
    tree,
)
from shell_clients import SCRIPT, put_first
from shell_terminal import ACTIVITIES, Activity

from apihour.ipc.runtime import Runtime
from apihour.ipc.wire import Framer, encode

BIN = Path(sys.executable).parent
SSHD = "/usr/sbin/sshd"  # it insists on being started by its absolute path
RATE = 500  # requests in a second of the meter
FLOOD = "50 clients flooding"
CLIENTS = 8  # that log in at a time
Row = list[str]


class House:
    """A daemon with a shell that a key opens, its processes where they are wanted."""

    def __init__(
        self, directory: Path, workers: int, *options: str, console: bool = True,
        cpus: tuple[int, int] = (SERVER_CPU, LOAD_CPU), limits: bool = True,
    ) -> None:
        self.directory = directory
        self.workers = workers
        self.key = directory / "id_ed25519"
        if not self.key.exists():
            make_key(self.key)
            subprocess.run(
                [BIN / "apihour", "keys", "add", f"{self.key}.pub", "--role", "admin",
                 "--keys", directory / "keys"], check=True, stdout=subprocess.DEVNULL)
        self.server = Server(
            [BIN / "apihour", "shell_app:Container", "--workers", str(workers), "--keys",
             directory / "keys", *([] if console else ["--no-console"]), *options],
            r"http=127\.0\.0\.1:(\d+)", cpu=None, cwd=HERE / "load", environment={
                "APIHOUR_RUNTIME_DIR": str(directory),
                "SHELL_LIMITS": "on" if limits else "off",
            },
        )
        self.console = console
        self._cpus = cpus

    def __enter__(self) -> House:
        self.server.__enter__()
        try:
            self.worker_pids = self._wait_ready()
        except BaseException:
            self.server.__exit__(*sys.exc_info())
            raise
        for pid in tree(self.server.pid):
            cpu = self._cpus[0] if pid in self.worker_pids else self._cpus[1]
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {cpu})
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.__exit__(*error)

    def _wait_ready(self) -> list[int]:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            log = "".join(self.server.lines)
            pids = [int(pid) for pid in re.findall(r"Worker \S+ ready \(pid: (\d+)\)", log)]
            if len(pids) >= self.workers and (not self.console or "shell: ssh " in log):
                self.ssh_port = int(re.findall(r"ssh=127\.0\.0\.1:(\d+)", log)[0])
                return pids
            time.sleep(0.05)
        raise RuntimeError("the daemon does not come up:\n" + "".join(self.server.lines))

    @property
    def ssh(self) -> list[str]:
        """The words of an OpenSSH client that logs in."""
        options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR",
                   f"UserKnownHostsFile={self.directory / 'known_hosts'}"]
        return ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.ssh_port),
                *(word for option in options for word in ("-o", option)), "admin@127.0.0.1"]

    @property
    def runtime(self) -> Runtime:
        return Runtime.instances(self.directory / f"apihour-{os.geteuid()}")[0]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one daemon; short, as its sockets' paths must be."""
    with tempfile.TemporaryDirectory(prefix="apihour-bench-") as name:
        yield Path(name)


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", path],
                   check=True)


def client(*words: object, cpu: int = LOAD_CPU) -> list[str]:
    return [*pinned(cpu), *python(SCRIPT, *map(str, words))]


def asked(*words: object, cpu: int = LOAD_CPU) -> dict[str, float]:
    """Run one of the clients to its end."""
    result: dict[str, float] = json.loads(subprocess.run(
        client(*words, cpu=cpu), check=True, capture_output=True, text=True, timeout=120).stdout)
    return result


# Neighbours


def metered(house: House, seconds: float) -> dict[str, float]:
    return asked("meter", house.server.port, seconds, RATE, cpu=SERVER_CPU)


def neighbours(rounds: int, quick: bool) -> list[Row]:
    seconds = 2.0 if quick else 4.0
    names = [*ACTIVITIES, FLOOD]
    figures: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {n: [] for n in names}
    notes = dict.fromkeys(names, 0)
    with scratch() as directory, House(directory, 1) as house:
        put_first(house.worker_pids[0])
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                idle = metered(house, seconds)
                busy, done = with_activity(house, name, seconds)
                figures[name].append((idle, busy))
                notes[name] += done
    rows = []
    for name in names:
        pairs = figures[name]
        slower = median([busy["p99"] / idle["p99"] for idle, busy in pairs])
        later = median([busy["max"] - idle["max"] for idle, busy in pairs])
        rows.append(["p99, " + name, f"{median([i['p99'] for i, _ in pairs]):.2f} ms idle",
                     f"{median([b['p99'] for _, b in pairs]):.2f} ms", f"{slower:.2f} x",
                     "<= 1.2 x"])
        rows.append(["max, " + name, f"{median([i['max'] for i, _ in pairs]):.1f} ms idle",
                     f"{median([b['max'] for _, b in pairs]):.1f} ms", f"{later:+.1f} ms",
                     "<= +10 ms"])
        print(f"{name}: done {notes[name]} times in {rounds} rounds of {seconds:g} s; "
              f"worst of all {max(b['max'] for _, b in pairs):.1f} ms, "
              f"idle {max(i['max'] for i, _ in pairs):.1f} ms", file=sys.stderr)
    return rows


def with_activity(house: House, name: str, seconds: float) -> tuple[dict[str, float], int]:
    """The meter's figures while `name` goes on, and how often it was done."""
    if name == FLOOD:
        with subprocess.Popen(client("flood", house.ssh_port, 50, seconds + 2.0),
                              stdout=subprocess.PIPE, text=True) as process:
            time.sleep(1.0)  # Python's start and its imports
            busy = metered(house, seconds)
            counts = json.loads(process.communicate(timeout=60)[0])
        # The next activity logs in from the same address.
        time.sleep(5.0)
        return busy, int(counts["begun"])
    activity = Activity(ACTIVITIES[name], house.ssh)
    time.sleep(1.0)
    busy = metered(house, seconds)
    return busy, activity.finish()


# Fleet


def fleet(rounds: int, quick: bool) -> list[Row]:
    calls = 10 if quick else 20 * rounds
    rows = []
    for workers in (2, 8, 32):
        with scratch() as directory, House(directory, workers, "--template") as house:
            for words in (["workers"], ["servers"]):
                times = call_times(house, words, calls, workers)
                goal = "<= 10 ms" if workers == 8 else ""
                rows.append([f"{words[0]} over {workers} workers, p50", f"{calls} calls",
                             f"{median(times):.1f} ms",
                             f"p99 {percentile(times, 99):.1f} ms", goal])
    return rows


def call_times(house: House, words: list[str], calls: int, workers: int) -> list[float]:
    """Milliseconds from a command to its whole answer, on one connection."""
    framer = Framer()
    found = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(house.runtime.console_socket))
        for number in range(calls + 3):
            began = time.perf_counter()
            sock.sendall(encode({"id": number, "command": "run",
                                 "arguments": {"words": [*words, "--json"]}}))
            text, status = "", None
            while status is None:
                for message in framer.feed(sock.recv(65536)):
                    text += message.get("item", {}).get("out", "")
                    if "result" in message:
                        status = message["result"]["status"]
                    if "error" in message:
                        raise RuntimeError(f"{words}: {message['error']}")
            if number >= 3:
                found.append((time.perf_counter() - began) * 1000)
            answer = json.loads(text)
            seen = len(answer) if words == ["workers"] else max(r["workers"] for r in answer)
            if status or seen != workers:
                raise RuntimeError(f"{words}: status {status}, {seen} workers; "
                                   f"expected {workers}")
    return found


# Connects


class Sshd(Server):
    """OpenSSH's server with a configuration of its own, for one key, on a loopback port."""

    def __init__(self, directory: Path, key: Path) -> None:
        host = directory / "sshd_host_key"
        make_key(host)
        authorized = directory / "authorized_by_sshd"
        authorized.write_text(Path(f"{key}.pub").read_text())
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        config = directory / "sshd_config"
        config.write_text("\n".join([
            "ListenAddress 127.0.0.1", f"Port {port}", f"HostKey {host}", "PidFile none",
            f"AuthorizedKeysFile {authorized}", "StrictModes no", "UsePAM no", "UseDNS no",
            "PasswordAuthentication no", "PermitRootLogin prohibit-password",
            "MaxStartups 1000:30:2000", "LogLevel INFO", ""]))
        super().__init__([SSHD, "-D", "-e", "-f", config], r"port (\d+)\.", cwd=directory)


def connects(rounds: int, quick: bool) -> list[Row]:
    seconds = 2.0 if quick else 5.0
    if not os.access(SSHD, os.X_OK):
        return [["logins in a second", "no sshd", "", "", "apt-get install openssh-server"]]
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd refuses to start without
    ours: list[float] = []
    theirs: list[float] = []
    cpu: list[float] = []
    with (
        scratch() as directory,
        House(directory, 1, limits=False, cpus=(LOAD_CPU, SERVER_CPU)) as house,
        Sshd(directory, house.key) as sshd,
    ):
        cases = [(house.ssh_port, "admin", ours), (sshd.port, getpass.getuser(), theirs)]
        for number in range(rounds):
            for port, user, figures in cases if number % 2 else cases[::-1]:
                result = asked("connect", port, user, house.key, CLIENTS, seconds)
                figures.append(result["rate"])
                cpu.append(result["cpu"])
    faster = median([a / b for a, b in zip(ours, theirs, strict=True)])
    print(f"connects: the client took {max(cpu):.0%} of its CPU at most", file=sys.stderr)
    return [["logins in a second", f"{median(theirs):.0f} sshd", f"{median(ours):.0f}",
             f"{faster:.1f} x", ">= 3 x"]]


# Agent


def agent(rounds: int, quick: bool) -> list[Row]:
    seconds, workers = (5.0 if quick else 20.0), 4
    with (
        scratch() as one, scratch() as two,
        House(one, workers) as looked_after,
        House(two, workers, console=False) as alone,
    ):
        houses = (looked_after, alone)
        time.sleep(1.0)
        before = [[cpu_seconds(pid) for pid in house.worker_pids] for house in houses]
        time.sleep(seconds)
        after = [[cpu_seconds(pid) for pid in house.worker_pids] for house in houses]
        shares = [median([(b - a) / seconds * 100 for a, b in zip(x, y, strict=True)])
                  for x, y in zip(before, after, strict=True)]
        sizes = [median([memory(pid)["uss"] for pid in house.worker_pids]) for house in houses]
    return [
        ["CPU of an idle worker", f"{shares[1]:.2f} % without", f"{shares[0]:.2f} %",
         f"{shares[0] - shares[1]:+.2f} %", "<= +0.5 %"],
        ["memory of an idle worker", f"{sizes[1]:.1f} MB without", f"{sizes[0]:.1f} MB",
         f"{sizes[0] - sizes[1]:+.1f} MB", "<= +2 MB"],
    ]


PARTS = {"neighbours": neighbours, "fleet": fleet, "connects": connects, "agent": agent}


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--only", help="parts by name, apart by commas: " + ", ".join(PARTS))
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only {', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    if shutil.which("ssh") is None:
        parser.error("OpenSSH's client is missing: apt-get install openssh-client")
    print(interpreter())
    rows: list[Row] = []
    for name in chosen:
        rows += PARTS[name](1 if options.quick else options.rounds, options.quick)
    print(table(["", "base", "apihour", "difference", "goal"], rows))


if __name__ == "__main__":
    main()
