"""The hosts of ``partition.py``: each a node of NATS and a daemon of two workers, and its shell."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncssh
from _bench import HERE
from partition_forwarder import free_ports
from partition_net import Network, die_with_parent

from apihour.testing import Daemon
from apihour.testing.processes import end_processes

LEASE = 3  # seconds
PATIENCE = 60.0  # seconds that anything on a loaded machine may take to come up
EVERYBODY = ("workers", "--host", "all")  # what is asked of the shell, and shows who is gone
_DIES = ("setpriv", "--pdeathsig", "TERM")  # with the driver


def wait_for(what: str, done: Callable[[], Any], seconds: float = PATIENCE) -> float:
    """Wait; returns how many seconds it took. Raises TimeoutError."""
    began = time.monotonic()
    while not done():
        if time.monotonic() > began + seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


def make_keys(directory: Path) -> Path:
    """Keys of a fleet in `directory`, for an admin whose private half is ``id`` there."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700, parents=True)
    key = asyncssh.generate_private_key("ssh-ed25519", comment="admin@partition")
    private = directory / "id"
    private.touch(mode=0o600)
    private.write_bytes(key.export_private_key("openssh"))
    public = key.export_public_key("openssh").decode().strip()
    (keys / "authorized_keys").write_text(f'role="admin" {public}\n')
    subprocess.run([sys.executable, "-m", "apihour", "keys", "fleet", "--keys", str(keys)],
                   check=True, stdout=subprocess.DEVNULL)
    return keys


class Host:
    """One host; `begin` starts it, `kill` is a loss of power."""

    def __init__(self, network: Network, number: int, directory: Path, history: Path,
                 keys: Path, elsewhere: bool) -> None:
        """`elsewhere`: its daemon uses the nodes of the other hosts, and not its own."""
        self.number, self.name = number, f"web-{number + 1}"
        self.directory = directory / self.name
        self._network = network
        self._history = history
        self._nats: subprocess.Popen[bytes] | None = None
        self.daemon: Daemon | None = None
        self.logs: list[str] = []
        self._monitor = ("127.0.0.1", free_ports("127.0.0.1", 1)[0])
        self.is_elsewhere = elsewhere
        self._write_files(keys)

    def _write_files(self, keys: Path) -> None:
        main = self.directory / "etc" / "main"
        main.mkdir(parents=True)
        shutil.copytree(keys, self.directory / "keys")
        shutil.copy2(keys.parent / "id", self.directory)
        servers = self._network.clients(self.number)[self.is_elsewhere:]
        nats = ",".join(f"nats://{one}" for one in servers)
        (main / "main.yaml").write_text(
            f"bus: {nats}\nshared: {{url: '{nats}', bucket: partition, replicas: 3, "
            f"deadline: 1.0}}\njobs: {{lease: {LEASE}}}\n")
        address = self._network.address(self.number)
        client, routes, _ = self._network.ports(self.number)
        there = ", ".join(f"nats-route://{one}" for one in self._network.routes(self.number))
        (self.directory / "nats.conf").write_text(
            f"server_name: {self.name}\nlisten: {address}:{client}\n"
            f"http: {address}:{self._monitor[1]}\n"
            f"jetstream {{ store_dir: {self.directory / 'data'} }}\n"
            f"cluster {{ name: partition, listen: {address}:{routes}, routes: [{there}], "
            "no_advertise: true }\n")

    # -- life ------------------------------------------------------------------------------

    def begin_nats(self) -> None:
        """Start its node of NATS."""
        with (self.directory / "nats.log").open("ab") as log:
            self._nats = subprocess.Popen(
                [*self._network.words(self.number), Path(sys.executable).with_name("nats-server"),
                 "--config", self.directory / "nats.conf"], cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_parent)

    def begin_daemon(self) -> None:
        """Start its daemon; it need not serve yet."""
        *_, port = self._network.ports(self.number)
        words = (*self._network.words(self.number), *_DIES, sys.executable, "-m", "apihour")
        self.daemon = Daemon(
            "partition_app:Container", "--console", f"127.0.0.1:{port}", "--keys",
            str(self.directory / "keys"), "--config_dir", str(self.directory / "etc"),
            console=True, command=words, cwd=HERE / "load", timeout=PATIENCE,
            env={"APIHOUR_HOST": self.name, "APIHOUR_PARTITION": str(self._history),
                 "GUNICORN_CMD_ARGS": None})
        self.daemon.start(wait=False)

    def is_well(self) -> bool:
        """Whether NATS says so: connected, and its JetStream has caught up."""
        return bool(self._monitored("healthz"))

    def leader(self, stream: str) -> str:
        """Which host's node leads that stream, as this one has it; empty when it does not know."""
        found = json.loads(self._monitored("jsz?streams=true") or b"{}")
        return next((each.get("cluster", {}).get("leader", "")
                     for account in found.get("account_details", ())
                     for each in account.get("stream_detail", ()) if each["name"] == stream), "")

    def _monitored(self, what: str) -> bytes:
        url = f"http://{self._network.address(self.number)}:{self._monitor[1]}/{what}"
        with (contextlib.suppress(OSError, urllib.error.URLError),
              urllib.request.urlopen(url, timeout=1) as answer):
            return bytes(answer.read())
        return b""

    def wait_serving(self, is_apart: bool = False) -> None:
        """Wait until each worker serves, and the console has joined the fleet, if it can."""
        assert self.daemon is not None
        self.daemon.wait_ready()
        if not (is_apart and self.is_elsewhere):
            self.daemon.wait_log(r"fleet: host \S+, with")

    def kill(self) -> None:
        """SIGKILL all that is on it, at once."""
        assert self.daemon is not None
        found = self.daemon.processes()
        if self._nats is not None:
            self._nats.kill()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_processes(found)
        self.end_nats(signal.SIGKILL)
        self.end_daemon()

    def end_nats(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End its node of NATS; what it has stored stays."""
        if self._nats is not None:
            self._nats.send_signal(sig)
            try:
                self._nats.wait(20)
            except subprocess.TimeoutExpired:
                self._nats.kill()
                self._nats.wait()
            self._nats = None

    def end_daemon(self) -> None:
        """End every process of its daemon."""
        if self.daemon is not None:
            self.daemon.close()
            self.logs += self.daemon.lines
            self.daemon = None

    def close(self) -> None:
        """End all of it."""
        self.end_daemon()
        self.end_nats(signal.SIGKILL)

    def workers(self) -> list[int]:
        """The pids of its workers."""
        return [] if self.daemon is None else [one.pid for one in self.daemon.workers("serving")]

    # -- its shell ---------------------------------------------------------------------------

    def ssh(self, *words: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        """A command of its shell, by an operator who logs in on the host itself.

        A status of 255 is ssh's own: it did not get in.
        """
        command = self._ssh(*words)
        try:
            return subprocess.run(command, text=True, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 255, "", f"no end within {timeout:g} s")

    def _ssh(self, *words: str) -> list[str]:
        *_, port = self._network.ports(self.number)
        command = [
            *self._network.words(self.number), "ssh", "-F", "/dev/null", "-i",
            str(self.directory / "id"), "-p", str(port)]
        for option in ("IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes",
                       "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                       "LogLevel=ERROR", "ConnectTimeout=10"):
            command += ["-o", option]
        return [*command, "admin@127.0.0.1", *words]

    def follow(self) -> subprocess.Popen[bytes]:
        """An operator there, who follows the lines of all hosts."""
        return subprocess.Popen(self._ssh("logs", "-f", "--host", "all"), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                preexec_fn=die_with_parent)

    def look(self, *words: str) -> Mapping[str, Any]:
        """What `words` say, a command for all hosts: seconds, status, hosts with rows, missing."""
        began = time.monotonic()
        done = self.ssh(*(words or EVERYBODY), "--json")
        took = time.monotonic() - began
        shown: set[str] = set()
        with contextlib.suppress(ValueError, TypeError):
            shown = {str(row["host"]) for row in json.loads(done.stdout)}
        missing = {line.partition("host ")[2].partition(":")[0]
                   for line in done.stderr.splitlines() if "no answer in time" in line}
        return {"took": took, "status": done.returncode, "shown": sorted(shown),
                "missing": sorted(missing), "said": done.stderr.strip()[:300]}
