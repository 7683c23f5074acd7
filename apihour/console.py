"""Supervising the console process: what it is given, when it is started again.

The core knows only its module name: the process is exec'd, so nothing of the arbiter's
state is in it, and it holds no listener but those handed to it here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from apihour.listeners import Listener

__all__ = ["CONSOLE_MODULE", "ConsoleProcess"]

CONSOLE_MODULE = "apihour_console"
_BACKOFF = (0.05, 0.2, 1.0, 5.0)  # seconds before the next start, by failures in a row
_HEALTHY = 10.0  # seconds of life after which a death counts as the first again


class ConsoleProcess:
    """One console, started again whenever it dies."""

    def __init__(
        self, configuration: Mapping[str, Any], shells: Sequence[Listener],
        health: Listener | None,
    ) -> None:
        self.configuration = dict(configuration)
        self.shells = list(shells)
        self.health = health
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
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
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", CONSOLE_MODULE], pass_fds=fds, env=environment,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )
        except OSError:
            # Out of processes or descriptors: the shell comes back when there is room.
            self._back_off()

    def on_exit(self, status: int) -> None:
        """The arbiter reaped it."""
        if self.process is not None:
            self.process.returncode = status  # reaped elsewhere: Popen must not wait again
        self.process = None
        self.restarts += 1
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
