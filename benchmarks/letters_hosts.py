"""The hosts of ``letters.py``: NATS, a daemon each, and what an operator of it is told."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _bench import HERE
from partition_forwarder import free_ports
from partition_net import die_with_parent

from apihour.testing import Daemon
from apihour.testing.processes import is_running

__all__ = ["NATS", "Deed", "Host"]

NOTHING = re.compile(r"nothing was (begun|done)|never came")


class NATS:
    """The server; it keeps its port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.monitor = free_ports("127.0.0.1", 2)
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it."""
        with (self.directory / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("nats-server"), "-a", "127.0.0.1", "-p",
                 str(self.port), "-m", str(self.monitor)], cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent)

    def end(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def subscriptions(self) -> int:
        """How many there are, of all its clients."""
        url = f"http://127.0.0.1:{self.monitor}/subsz"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(json.loads(answer.read())["num_subscriptions"])


class Host:
    """One daemon, and the operator's shell of it."""

    def __init__(self, name: str, directory: Path, keys: Path, nats: int) -> None:
        self.name, self.directory = name, directory / name
        self.deeds = self.directory / "deeds"
        self.lines: list[str] = []
        [self.port] = free_ports("127.0.0.1", 1)
        main = self.directory / "etc" / "main"
        main.mkdir(parents=True)
        (main / "main.yaml").write_text(f"bus: nats://127.0.0.1:{nats}\n")
        shutil.copytree(keys, self.directory / "keys")
        shutil.copy2(keys.parent / "id", self.directory)
        self.deeds.touch()
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        return Daemon(
            "letters_app:Container", "--console", f"127.0.0.1:{self.port}", "--keys",
            str(self.directory / "keys"), "--config_dir", str(self.directory / "etc"),
            console=True, cwd=HERE / "load", timeout=60,
            env={"APIHOUR_HOST": self.name, "APIHOUR_DEEDS": str(self.deeds),
                 "GUNICORN_CMD_ARGS": None})

    def begin(self) -> None:
        """Start it, if it does not run."""
        if self.daemon.process is None or not is_running(self.daemon.pid):
            if self.daemon.process is not None:
                self.close()
                self.daemon = self._daemon()
            self.daemon.start(wait=False)

    def close(self) -> None:
        """End it."""
        self.daemon.close()
        self.lines += self.daemon.lines

    def log(self) -> list[str]:
        """All lines so far."""
        return [*self.lines, *self.daemon.lines]

    def audit(self) -> list[dict[str, Any]]:
        """All that its audit log says."""
        path = self.directory / "keys" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def console(self) -> int:
        """The pid of its console; 0 when there is none."""
        found = 0
        for pid in self.daemon.processes():
            with contextlib.suppress(OSError):
                if b"apihour_console" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found = max(found, pid)
        return found

    def pid_of(self, what: str) -> int:
        """The pid of its console, arbiter or a worker; 0 when there is none."""
        if what == "console":
            return self.console()
        if what == "arbiter":
            return self.daemon.pid
        serving = [one.pid for one in self.daemon.workers("serving")]
        last = self.deeds.read_text().split()[-1:]
        return next((pid for pid in serving if last == [str(pid)]), max(serving, default=0))

    def ssh(self, user: str, *words: str) -> subprocess.Popen[str]:
        """A command of its shell."""
        command = ["ssh", "-F", "/dev/null", "-i", str(self.directory / "id"), "-p",
                   str(self.port)]
        for option in ("IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes",
                       "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                       "LogLevel=ERROR", "ConnectTimeout=10"):
            command += ["-o", option]
        return subprocess.Popen(
            [*command, f"{user}@127.0.0.1", *words, "--json"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)


@dataclass
class Deed:
    """What one operator has done; `limit`: seconds that the shell may take."""

    user: str
    at: str
    words: tuple[str, ...]
    hosts: tuple[str, ...]
    limit: float
    status: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    said: str = ""
    began: float = 0.0
    clock: float = 0.0
    took: float = 0.0

    @property
    def word(self) -> str:
        return "fleet" if "--fleet" in self.words else self.words[0]

    def verdict(self, host: str) -> str:
        """What was said of that host: done, failed, nothing (was begun there), or unknown."""
        about = "\n".join(line for line in self.said.splitlines()
                          if line.startswith(f"host {host}:") or not line.startswith("host "))
        row = next((one for one in self.rows if one.get("host") == host), None)
        if self.word == "fleet":
            outcome = str(row["outcome"]) if row else ""
            error = str(row.get("error") or "") if row else self.said
            if outcome == "not reached" or NOTHING.search(error):
                return "nothing"
            if outcome == "failed":
                return "done" if error.startswith("reloaded,") else "failed"
            return {"done": "done", "returned": "done"}.get(outcome, "unknown")
        if NOTHING.search(about):
            return "nothing"
        if row is not None and row.get("outcome") == "failed":
            return "failed"
        if row is not None and f"host {host}:" not in self.said:
            return "done"
        if self.status in (0, 1) and not about.strip():
            return "done" if self.status == 0 else "failed"
        return "unknown" if self.status in (75, 255, None) else "failed"
