"""Binary upgrade: a new arbiter on the same sockets, and only then the end of this one.

Rules:

- Descriptors and their names travel in one environment variable; nothing else is inherited.
- The new arbiter reports over a socketpair: ``serving``, or its death is the failure. Until
  then the old one changes nothing; a failed upgrade leaves it untouched.
- The pid file, the control socket, the instance file and systemd's MAINPID change hands
  when the new arbiter serves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from apihour.bind.handing_over import facts_of
from apihour.bind.listeners import Listener
from apihour.books.books import INHERITED, Books
from apihour.ipc.channel import Channel
from apihour.ipc.signals import ORDERS, blocked

__all__ = ["Upgrade"]


class Upgrade:
    """The old arbiter's side."""

    def __init__(
        self, books: Books, waiter: Callable[[dict[str, Any], str], None] | None
    ) -> None:
        self.books = books
        self.began = time.monotonic()
        self.succeeded = False
        self.failed: str | None = None
        self._waiter = waiter
        self.is_open = False

    def start(self) -> None:
        """Start the new arbiter. Raises OSError, and HookError when pre_exec failed."""
        books = self.books
        books.hooks.demand(books.cfg, "pre_exec")
        self._channel, theirs = Channel.pair()
        self.is_open = True
        listeners = books.all_listeners()
        books.log.info("Upgrade: starting a new arbiter")
        environment = {
            **books.cfg.env_orig, INHERITED: json.dumps(self._facts(theirs.fileno(), listeners))}
        for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environment.pop(key, None)
        with blocked(ORDERS):  # it lets them through when it can obey them
            self._process = subprocess.Popen(
                # As it was started: after ``-m apihour`` argv alone would put this package's
                # own directory on the path of imports.
                [sys.executable, *sys.orig_argv[1:]], env=environment,
                cwd=books.app.directory,
                pass_fds=[theirs.fileno(), *(listener.fileno() for listener in listeners)],
            )
        theirs.close()

    def _facts(self, channel: int, listeners: list[Listener]) -> dict[str, Any]:
        """What the new one inherits."""
        books = self.books
        return {
            "runtime": str(books.runtime.path), "channel": channel,
            "systemd": books.systemd, "arbiter": books.pid,
            "operator_workers": books.operator_workers, "workers": books.num_workers,
            "generation": books.generation, "releases": books.releases,
            "listeners": [{**facts_of(x), "fd": x.fileno()} for x in listeners],
        }

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._channel.fileno()

    def advance(self) -> None:
        """Hear what the new arbiter says."""
        if not self.is_open or self.succeeded:
            return
        messages = self._channel.receive()
        for message in messages or []:
            if message.get("event") == "serving":
                self.succeeded = self.books.handed_over = True
                self._answer({"outcome": "done", "pid": self.pid,
                              "seconds": round(time.monotonic() - self.began, 3), "error": ""}, "")
                return
            if message.get("event") == "failed":
                self._fail(str(message.get("message")), str(message.get("detail", "")))
                return
        if messages is None:
            self._fail("the new arbiter ended before it served")
        elif time.monotonic() - self.began > 2 * self.books.cfg.boot_timeout:
            os.kill(self.pid, signal.SIGTERM)
            self._fail(f"the new arbiter did not serve within "
                       f"{2 * self.books.cfg.boot_timeout:g} s")

    def on_exit(self, status: int) -> None:
        """The arbiter reaped the new one."""
        self._process.returncode = status
        if not self.succeeded:
            self.advance()
            if self.failed is None and not self.succeeded:
                self._fail("the new arbiter ended before it served")

    def _fail(self, error: str, detail: str = "") -> None:
        if self.failed is None:
            self.failed = error
            self._answer({"outcome": "failed", "error": error}, detail)
            self.close()

    def _answer(self, outcome: dict[str, Any], detail: str) -> None:
        if self._waiter is not None:
            self._waiter(outcome, detail)
            self._waiter = None

    def abandon(self) -> None:
        """The daemon stops: so does what was to follow it."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        finally:
            self._fail("the daemon stops")

    def close(self) -> None:
        """Close this end; the process goes on as it is."""
        if self.is_open:
            self.is_open = False
            self._channel.close()
