"""The network between the hosts of ``partition.py``, and how it is cut.

`Namespaces`: each host is a network namespace, joined to the others by a bridge in one of their
own. They have no names, and are gone with their processes. `Loopback`, where the system refuses
them: each host is an address (127.0.0.1 …), and what goes from one to another passes a forwarder.
A cut is silent in both: nothing is refused or closed, it only does not arrive.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from partition_forwarder import Forwarder, free_ports

INSIDE = "APIHOUR_PARTITION_INSIDE"
NATS, ROUTES, SSH = 4222, 6222, 8022
_NOBODY = "02:00:00:00:00:01"  # an Ethernet address that no host has


class Network(Protocol):
    """Hosts, by number from 0, and the links between them."""

    kind: str

    def words(self, host: int) -> list[str]:
        """What goes before a command to run it on that host."""

    def address(self, host: int) -> str:
        """Where it listens."""

    def ports(self, host: int) -> tuple[int, int, int]:
        """Where NATS's clients, its routes, and the shell are on that host."""

    def clients(self, host: int) -> list[str]:
        """``HOST:PORT`` of the NATS of every host, as `host` reaches them; its own comes first."""

    def routes(self, host: int) -> list[str]:
        """The same for NATS's routes, without its own."""

    def cut(self, source: int, target: int) -> None:
        """Nothing of `source` reaches `target` any more; the other way is as it was."""

    def join(self, source: int, target: int) -> None:
        """It does again."""


def die_with_parent() -> None:
    """For `preexec_fn`: end when the driver does, however it does. See prctl(2)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def enter_namespace() -> bool:
    """Go on in a network namespace of one's own; False where that is refused.

    Returns True there: it begins this program anew.
    """
    if os.environ.get(INSIDE):
        return True
    words = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    needed = ("unshare", "nsenter", "ip")
    if not all(map(shutil.which, needed)) or subprocess.run(
            [*words, "ip", "link", "add", "b0", "type", "bridge"], capture_output=True).returncode:
        return False
    sys.stdout.flush()
    os.execvpe("unshare", [*words, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


class Namespaces:
    """`count` hosts, 10.77.0.1 and on; for a with statement, within `enter_namespace`."""

    kind = "network namespaces"

    def __init__(self, count: int) -> None:
        self._count = count
        self._stack = ExitStack()
        self._pids: list[int] = []

    def __enter__(self) -> Namespaces:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "b0", "type", "bridge")
        run("ip", "link", "set", "b0", "up")
        run("ip", "address", "add", "10.77.0.254/24", "dev", "b0")
        for host in range(self._count):
            self._add(host)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _add(self, host: int) -> None:
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"],
                                  preexec_fn=die_with_parent)
        self._stack.callback(holder.wait)
        self._stack.callback(holder.kill)
        ends, own = time.monotonic() + 30, os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            if time.monotonic() > ends:
                raise TimeoutError("a namespace: not made within 30 s")
            time.sleep(0.01)
        self._pids.append(holder.pid)
        run("ip", "link", "add", f"h{host}", "type", "veth", "peer", "name", "eth0",
            "netns", str(holder.pid))
        run("ip", "link", "set", f"h{host}", "master", "b0", "up")
        words = self.words(host)
        run(*words, "ip", "link", "set", "lo", "up")
        run(*words, "ip", "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        run(*words, "ip", "link", "set", "eth0", "up")

    def words(self, host: int) -> list[str]:
        """See :class:`Network`."""
        return ["nsenter", f"--net=/proc/{self._pids[host]}/ns/net", "--"]

    def address(self, host: int) -> str:
        """See :class:`Network`."""
        return f"10.77.0.{host + 1}"

    def ports(self, host: int) -> tuple[int, int, int]:
        """See :class:`Network`."""
        return NATS, ROUTES, SSH

    def clients(self, host: int) -> list[str]:
        """See :class:`Network`."""
        others = [each for each in range(self._count) if each != host]
        return [f"{self.address(each)}:{NATS}" for each in (host, *others)]

    def routes(self, host: int) -> list[str]:
        """See :class:`Network`."""
        return [f"{self.address(each)}:{ROUTES}" for each in range(self._count) if each != host]

    def cut(self, source: int, target: int) -> None:
        """See :class:`Network`: it sends to an Ethernet address that nobody has."""
        run(*self.words(source), "ip", "neighbour", "replace", self.address(target), "lladdr",
            _NOBODY, "dev", "eth0", "nud", "permanent")

    def join(self, source: int, target: int) -> None:
        """See :class:`Network`."""
        run(*self.words(source), "ip", "neighbour", "del", self.address(target), "dev", "eth0")


class Loopback:
    """`count` hosts, 127.0.0.1 and on, each with a forwarder to each other one."""

    kind = "loopback addresses with forwarders"

    def __init__(self, count: int) -> None:
        self._count = count
        self._ports = [free_ports(self.address(host), 3) for host in range(count)]
        self._forwarder = Forwarder()
        self._there: dict[tuple[int, int], tuple[int, int]] = {}

    def __enter__(self) -> Loopback:
        self._forwarder.start()
        for source in range(self._count):
            for target in range(self._count):
                if source != target:
                    nats, routes, _ = self._ports[target]
                    self._there[source, target] = (
                        self._forward(source, target, nats), self._forward(source, target, routes))
        return self

    def __exit__(self, *error: object) -> None:
        self._forwarder.stop()

    def _forward(self, source: int, target: int, port: int) -> int:
        return self._forwarder.forward(
            (source, target), self.address(source), (self.address(target), port))

    def words(self, host: int) -> list[str]:
        """See :class:`Network`."""
        return []

    def address(self, host: int) -> str:
        """See :class:`Network`."""
        return f"127.0.0.{host + 1}"

    def ports(self, host: int) -> tuple[int, int, int]:
        """See :class:`Network`."""
        nats, routes, ssh = self._ports[host]
        return nats, routes, ssh

    def clients(self, host: int) -> list[str]:
        """See :class:`Network`."""
        return [f"{self.address(host)}:{self._ports[host][0]}", *self._others(host, 0)]

    def routes(self, host: int) -> list[str]:
        """See :class:`Network`."""
        return self._others(host, 1)

    def _others(self, host: int, which: int) -> list[str]:
        return [f"{self.address(host)}:{there[which]}" for (source, _), there in
                self._there.items() if source == host]

    def cut(self, source: int, target: int) -> None:
        """See :class:`Network`."""
        self._forwarder.cut(source, target)

    def join(self, source: int, target: int) -> None:
        """See :class:`Network`."""
        self._forwarder.join(source, target)


def run(*words: str) -> None:
    """A command that has to succeed. Raises RuntimeError with what it said."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


def isolate(network: Network, host: int, others: Sequence[int]) -> None:
    """Cut it off from the others, in both directions."""
    for other in others:
        network.cut(host, other)
        network.cut(other, host)


def rejoin(network: Network, host: int, others: Sequence[int]) -> None:
    """Undo `isolate`."""
    for other in others:
        network.join(host, other)
        network.join(other, host)
