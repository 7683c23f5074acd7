"""Supervising the console process: what it is given, when it is started again.

Its module is found by an entry point: the process is exec'd, so nothing of the arbiter's
state is in it, and it holds no listener but those handed to it here.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener, open_listeners
from apihour.bind.sockets import DEFAULT_CONSOLE, may_open_shell
from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.errors import BindError
from apihour.installed import console_module
from apihour.ipc.scoreboard import Figure
from apihour.ipc.signals import ORDERS, blocked

__all__ = ["ConsoleKeeper", "ConsoleProcess"]

_BACKOFF = (0.05, 0.2, 1.0, 5.0)  # seconds before the next start, by failures in a row
_LOOK_EVERY = 2.0  # seconds between two looks for the first key
_HEALTHY = 10.0  # seconds of life after which a death counts as the first again


class ConsoleProcess:
    """One console, started again whenever it dies."""

    def __init__(
        self, configuration: Mapping[str, Any], shells: Sequence[Listener],
        health: Listener | None, owner: tuple[int, int] | None = None,
    ) -> None:
        """`owner`: the (uid, gid) it runs as when the arbiter is root and the workers are not."""
        self.configuration = dict(configuration)
        self.shells = list(shells)
        self.health = health
        self._owner = owner
        self.process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started = 0.0
        self._not_before = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def keep_up(self) -> None:
        """Start it unless it runs or it is too early."""
        if self.process is None and time.monotonic() >= self._not_before:
            self._start()

    def _start(self) -> None:
        listeners = [*self.shells, *([self.health] if self.health else [])]
        fds = [listener.fileno() for listener in listeners]
        configuration = {
            **self.configuration,
            "fds": {"ssh": [listener.fileno() for listener in self.shells]},
            "health": {"fd": self.health.fileno()} if self.health else None,
        }
        environment = {**os.environ, "APIHOUR_CONSOLE": json.dumps(configuration)}
        self._started = time.monotonic()
        identity: dict[str, Any] = {}
        if self._owner is not None:
            identity = {"user": self._owner[0], "group": self._owner[1], "extra_groups": []}
        try:
            with blocked(ORDERS):  # it lets them through when it can obey them
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", console_module()], pass_fds=fds, env=environment,
                    stdin=subprocess.DEVNULL, start_new_session=True, **identity,
                )
        except OSError:
            # Out of processes or descriptors: the shell comes back when there is room.
            self._back_off()

    def on_exit(self) -> None:
        """The arbiter reaped it."""
        if self.process is not None:
            self.process.returncode = 0  # reaped elsewhere: Popen must not wait again
        self.process = None
        self._back_off()

    def _back_off(self) -> None:
        lived = time.monotonic() - self._started
        self._failures = 0 if lived > _HEALTHY else self._failures + 1
        self._not_before = time.monotonic() + _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]

    def signal(self, sig: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None:
            try:
                os.kill(self.process.pid, sig)
            except ProcessLookupError:
                return


class ConsoleKeeper(ArbiterPart):
    """The console that serves, and those that leave with their last session."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.current: ConsoleProcess | None = None
        self._old: list[ConsoleProcess] = []
        self._told = ""
        self._report: Mapping[str, Any] = {}
        self._next_look = math.inf

    def pids(self) -> list[int]:
        """The consoles that live."""
        return [console.pid for console in self._all() if console.pid]

    def _all(self) -> list[ConsoleProcess]:
        return [*self._old, *([self.current] if self.current is not None else [])]

    def advance(self) -> None:
        """Start the console again when it has died; open the shell when its first key is there."""
        if not self.books.has_room:
            return
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY
            if may_open_shell(self.books.cfg):
                self.manage(self._report)
        if self.current is not None:
            self.current.keep_up()

    def manage(self, report: Mapping[str, Any]) -> None:
        """Start the console, or replace it when what it must serve has changed.

        `report` is what a worker said when it was ready: it names the servers that are
        shells, whose listeners belong to the console.
        """
        books, cfg = self.books, self.books.cfg
        if cfg.no_console or books.stopping:
            return
        self._report = report
        shells, options = self._shells(report)
        configuration = {
            "runtime": str(books.runtime.path), "keys": os.path.abspath(cfg.keys),
            "listen": [listener.url for listener in shells],
            "terminal": sys.stderr.isatty() and sys.stdin.isatty(),
            "strict": cfg.ssh_strict, "loglevel": cfg.loglevel,
            "errorlog": cfg.errorlog if cfg.errorlog == "-" else os.path.abspath(cfg.errorlog),
            "accesslog": "-" if cfg.accesslog in (None, "-") else os.path.abspath(cfg.accesslog),
            "name": books.proc_name, "options": options,
            "graceful_timeout": float(cfg.graceful_timeout),
        }
        health = books.extras.get("health")
        current = self.current
        if current is not None:
            if (current.configuration, current.shells, current.health) == (
                configuration, shells, health
            ):
                return
            current.signal(signal.SIGTERM)
            self._old.append(current)
        owner = None if cfg.uid == os.geteuid() else (cfg.uid, cfg.gid)
        self.current = ConsoleProcess(configuration, shells, health, owner)

    def _shells(self, report: Mapping[str, Any]) -> tuple[list[Listener], dict[str, Any]]:
        books = self.books
        declared = report.get("shells") or {}
        names = {bind for binds in declared.values() for bind in binds}
        shells = [listener for listener in books.listeners if listener.name in names]
        options: dict[str, Any] = {}
        for server in report.get("servers", []):
            if server["name"] in declared:
                options.update(server.get("options") or {})
        extras = books.extras
        self._next_look = math.inf
        if "console" in extras or shells:
            pass
        elif not may_open_shell(books.cfg):  # nobody could log in: it is looked for the first key
            self._next_look = time.monotonic() + _LOOK_EVERY
        else:
            address = parse_address(DEFAULT_CONSOLE)
            try:
                extras["console"] = open_listeners(
                    [("@console", address, 0)], books.cfg.backlog, {})[0]
                books.log.info("Listening at: %s", extras["console"])
            except BindError as error:
                self._no_shell(str(error))
        if "console" in extras:
            shells = [*shells, extras["console"]]
        return shells, options

    def _no_shell(self, why: str) -> None:
        if why != self._told:  # each worker that is ready has it tried again
            self.books.log.warning("No SSH shell: %s; the local one works: apihour ctl", why)
        self._told = why

    def on_exit(self, pid: int, status: int) -> bool:
        for console in self._all():
            if console.pid != pid:
                continue
            console.on_exit()
            if console in self._old:
                self._old.remove(console)
            elif not self.books.stopping:
                from apihour.arbiter.losses import describe

                self.books.log.warning(
                    "Console (pid: %s) ended (%s), starting it again", pid, describe(status))
                self.books.scoreboard.count_figure(Figure.CONSOLE_RESTARTS)
            return True
        return False

    def signal(self, sig: int) -> None:
        """Send a signal to every console."""
        for console in self._all():
            console.signal(sig)
