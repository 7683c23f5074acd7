"""What ``partition.py`` does to its hosts, in an order that a seed gives; each heals at its end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from partition_hosts import EVERYBODY, LEASE, Host, wait_for
from partition_net import Network, isolate, rejoin

KINDS = ("kill", "isolate", "one-way", "stop", "rolling", "apart")
Write = Callable[..., None]


class Faults:
    """Each method is one fault; what it saw is written to the history by `write`."""

    def __init__(self, network: Network, hosts: Sequence[Host], write: Write, seed: int,
                 holder: Callable[[], str], pace: float = 1.0) -> None:
        """`holder` says which worker wrote to the resource last; `pace`: how long faults last."""
        self._pace, self._is_quick = pace, pace < 1
        self._network = network
        self._hosts = hosts
        self._write = write
        self._random = random.Random(seed)
        self._holder = holder
        self._methods: dict[str, Callable[[Host, list[Host]], None]] = {
            "kill": self.kill, "isolate": self.isolate, "one-way": self.one_way,
            "stop": self.stop, "rolling": self.rolling, "apart": self.apart}

    def run(self, kinds: Sequence[str], rest: float) -> None:
        """Each kind once, `rest` seconds of peace after each."""
        order = list(kinds)
        self._random.shuffle(order)
        for kind in order:
            target = self._target(kind)
            others = [each for each in self._hosts if each is not target]
            began = time.monotonic()
            print(f"    {kind} {target.name}", flush=True)
            self._methods[kind](target, others)
            self._write("fault", kind=kind, began=began, target=self._stopped if kind == "stop"
                        else target.name)
            self.heal(kind, rest)

    def heal(self, kind: str, rest: float) -> None:
        """Wait until every shell has every host again, and NATS is well; then rest."""
        began = time.monotonic()
        if not self._is_quick:
            wait_for("NATS is well", lambda: all(host.is_well() for host in self._hosts))
        for host in self._hosts:
            host.wait_serving()
        for host in self._hosts:
            seen: dict[str, Any] = {}
            try:
                wait_for("all hosts", lambda host=host, seen=seen: (
                    seen.update(host.look()) or self._is_whole(seen)), 45)
            except TimeoutError:
                self._look(host, kind, "", seen, began, named=False)
            else:
                self._look(host, kind, "", seen, began, named=True)
        self._write("healed", kind=kind, took=time.monotonic() - began)
        print(f"      healed after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(rest)

    def _is_whole(self, seen: Mapping[str, Any]) -> bool:
        return (seen["status"] == 0
                and seen["shown"] == sorted(host.name for host in self._hosts))

    def _look(self, at: Host, kind: str, gone: str, seen: Mapping[str, Any], began: float,
              named: bool) -> None:
        self._write("look", at_host=at.name, kind=kind, gone=gone, named=named, since=(
            time.monotonic() - began), **{key: seen[key] for key in seen})

    def expect_gone(self, at: Host, kind: str, gone: Sequence[Host]) -> None:
        """The shell of a host names what is gone; accused is who is there all the same."""
        self._expect(at, kind, sorted(host.name for host in gone), EVERYBODY)
        if not self._is_quick:
            self._expect(at, kind, sorted(host.name for host in gone), ("hosts",))

    def _expect(self, at: Host, kind: str, names: list[str], words: Sequence[str]) -> None:
        began = time.monotonic()
        while True:
            seen = at.look(*words)
            is_named = seen["status"] == 75 and set(names) <= set(seen["missing"])
            accused = sorted(set(seen["missing"]) - set(names))
            self._write("look", at_host=at.name, kind=kind, gone=",".join(names), named=is_named,
                        since=time.monotonic() - began, accused=accused, **seen)
            if (is_named and not accused) or time.monotonic() > began + 15:
                return
            time.sleep(0.2)

    def _between(self, least: float, most: float) -> float:
        return self._pace * self._random.uniform(least, most)

    def _target(self, kind: str) -> Host:
        """A host at random; often that of the holder, or of the leader of the store."""
        target = self._random.choice(list(self._hosts))
        chance = self._random.random()
        name = (self._holder().rpartition("-")[0] if chance < 0.35 else
                target.leader("KV_partition") if chance < 0.7 else "")
        return next((host for host in self._hosts if host.name == name), target)

    # -- faults ------------------------------------------------------------------------------

    def kill(self, target: Host, others: list[Host]) -> None:
        """All of a host dies, with an operator who is logged in there, and comes again."""
        operator = target.follow()
        time.sleep(1)
        target.kill()
        began = time.monotonic()
        try:
            status: int | None = operator.wait(10)
        except subprocess.TimeoutExpired:
            status = None
            operator.kill()
            operator.wait()
        self._write("session", at_host=target.name, status=status, took=time.monotonic() - began)
        ends = time.monotonic() + self._between(4, 8)
        for other in others:
            self.expect_gone(other, "kill", [target])
        time.sleep(max(0.0, ends - time.monotonic()))
        target.begin_nats()
        target.begin_daemon()

    def isolate(self, target: Host, others: list[Host]) -> None:
        """A host is cut off from the others, in both directions."""
        numbers = [other.number for other in others]
        isolate(self._network, target.number, numbers)
        ends = time.monotonic() + self._between(6, 15)
        try:
            self.expect_gone(others[0], "isolate", [target])
            self.expect_gone(target, "isolate", others)
            time.sleep(max(0.0, ends - time.monotonic()))
        finally:
            rejoin(self._network, target.number, numbers)

    def one_way(self, target: Host, others: list[Host]) -> None:
        """What a host sends does not reach one of the others; what it is sent arrives."""
        other = self._random.choice(others)
        self._network.cut(target.number, other.number)
        try:
            time.sleep(self._between(5, 9))
        finally:
            self._network.join(target.number, other.number)

    def stop(self, target: Host, others: list[Host]) -> None:
        """The holder of the lease is stopped for longer than the lease lasts, and wakes up."""
        wait_for("a holder", self._holder)
        self._stopped = self._holder()
        pid = int(self._stopped.rpartition("-")[2])
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(LEASE + self._between(2, 5))
        finally:
            os.kill(pid, signal.SIGCONT)

    def rolling(self, target: Host, others: list[Host]) -> None:
        """The nodes of NATS are restarted in turn, each once the one before is well."""
        for host in (target, *others):
            host.end_nats()
            host.begin_nats()
            wait_for(f"NATS of {host.name}", lambda: all(one.is_well() for one in self._hosts))

    def apart(self, target: Host, others: list[Host]) -> None:
        """A host dies, and comes up while it is cut off from the others."""
        numbers = [other.number for other in others]
        target.kill()
        isolate(self._network, target.number, numbers)
        try:
            target.begin_nats()
            target.begin_daemon()
            target.wait_serving(is_apart=True)  # without a majority of NATS
            time.sleep(self._between(1, 4))
        finally:
            rejoin(self._network, target.number, numbers)
