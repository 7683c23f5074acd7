"""The console process: what the arbiter starts beside the workers, and how it ends.

Rules:

- It is exec'd with one environment variable, ``APIHOUR_CONSOLE`` (JSON, see
  :class:`apihour_console.settings.Settings`), and inherits every network socket; it opens
  only its unix socket.
- It imports no application code and outlives the arbiter that started it: told to go
  (SIGTERM) it stops accepting and ends with its last session. When no arbiter of the daemon
  is left it ends within ``graceful_timeout``, asked or not.
- Health comes first, then the local socket, then the network shell: whatever keeps that off,
  also libraries of it that fail or hang, is one line in the log, and the others answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
from pathlib import Path

from apihour.errors import ConfigurationError
from apihour.ipc.daemons import has_arbiter, scoreboards
from apihour.ipc.runtime import Runtime
from apihour.ipc.signals import ORDERS, handle_in_loop, ignore, let_through
from apihour_console.commands import operations
from apihour_console.faces.http import HealthServer
from apihour_console.faces.local import LocalServer
from apihour_console.faces.network import NetworkShell
from apihour_console.fleet.fleet import Fleet
from apihour_console.hosts.waiting import joined
from apihour_console.log import ConsoleLog
from apihour_console.settings import VARIABLE, Settings
from apihour_console.shell.audit import AuditLog, daemon_label
from apihour_console.shell.providers import audit_provider, deeds_provider, no_sessions

__all__ = ["Console", "main"]

READY = b"READY\n"
_ORPHAN_CHECK = 1.0  # seconds between looks for a living arbiter
_MOST_LOOKS = 10  # until what vanished from the runtime directory will not come back


class Console:
    """Everything the process runs, from start to end."""

    def __init__(self, settings: Settings, log: ConsoleLog) -> None:
        self.settings = settings
        self.log = log
        self.logger = log.logger
        self.runtime = Runtime(settings.runtime)
        self._hold_runtime()
        options = settings.options
        self.keys = Path(options.get("keys") or settings.keys)
        self.state = Path(options["state"]) if options.get("state") else self.keys
        self._leaving = asyncio.Event()
        self._at_once = asyncio.Event()
        self._deadline = math.inf
        self._is_orphan = False  # its daemon died, rather than stopped

    async def run(self) -> None:
        """Serve until told to go."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        loop.add_signal_handler(signal.SIGINT, self._leave_now)
        ignore(set(ORDERS) - {signal.SIGUSR1})  # those are the arbiter's to obey
        handle_in_loop(loop, signal.SIGUSR1, self.log.reopen)
        let_through(ORDERS)  # blocked for the start, during which they would end this process
        fleet = Fleet(self.runtime, self.logger, operations.commands, self._disks())
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(fleet.close)
            if self.settings.health is not None:  # first of all: nothing else may keep it silent
                health = HealthServer(fleet.census, fleet.meter, self.logger)
                await health.start(_listener(int(self.settings.health["fd"])))
                stack.push_async_callback(health.stop)
            await fleet.start()
            audit = AuditLog(self.state / "audit.jsonl", self.logger,
                             daemon_label(self.runtime.path, self.settings.name))
            fleet.providers["audit"] = audit_provider(audit)
            fleet.providers["deeds"] = deeds_provider(audit)
            fleet.providers["sessions"] = no_sessions
            local = LocalServer(self.runtime.console_socket, fleet, audit, self.logger)
            await local.start()
            stack.push_async_callback(local.stop)
            shell = NetworkShell(self, fleet, audit, [
                _listener(fd) for fd in self.settings.fds.get("ssh", ())])
            stack.push_async_callback(shell.stop)
            await shell.start()
            await stack.enter_async_context(self._fleet_of_hosts(fleet, audit))
            self._report_ready()
            orphan = loop.create_task(self._watch_arbiters(shell, local))
            stack.callback(orphan.cancel)
            await self._leaving.wait()
            local.stop_accepting()
            await self._finish(local, shell)

    def _fleet_of_hosts(
        self, fleet: Fleet, audit: AuditLog) -> contextlib.AbstractAsyncContextManager[None]:
        return joined(fleet, self.keys, self.settings.name, audit, self.logger,
                      lambda: not self._is_orphan)

    async def _finish(self, local: LocalServer, shell: NetworkShell) -> None:
        """Wait for what is under way, unless told by SIGINT that it was long enough.

        Whoever is there then gets a goodbye, and the screen back as it was.
        """
        why = f"{self.settings.name}: this console is going"
        loop = asyncio.get_running_loop()
        last = asyncio.gather(local.finish(), shell.drain(self._deadline, why))
        at_once = loop.create_task(self._at_once.wait())
        at_once.add_done_callback(lambda task: last.cancel())
        with contextlib.suppress(asyncio.CancelledError):
            await last
        at_once.cancel()

    def _leave_now(self) -> None:
        """SIGINT: the daemon has waited long enough for open sessions."""
        self._at_once.set()
        self._leaving.set()

    def _disks(self) -> dict[str, str]:
        """What is written to, by what for."""
        files = {"the log": self.settings.errorlog, "the access log": self.settings.accesslog,
                 "audit log and keys": str(self.state),
                 "the runtime directory": str(self.runtime.path)}
        return {what: path for what, path in files.items() if path not in ("", "-")}

    def _report_ready(self) -> None:
        descriptor = self.settings.ready_fd
        if descriptor is not None:
            try:
                os.write(descriptor, READY)
            finally:
                os.close(descriptor)

    def _hold_runtime(self) -> None:
        """Hold the lock of the runtime directory, also when that was made again."""
        if not self.runtime.is_intact():
            with contextlib.suppress(OSError):  # it has vanished in this moment
                self.runtime.join()

    async def _watch_arbiters(self, shell: NetworkShell, local: LocalServer) -> None:
        """End when no arbiter of this daemon is left: nobody else would end this process."""
        looks = 0
        while looks < _MOST_LOOKS:
            await asyncio.sleep(_ORPHAN_CHECK)
            self._hold_runtime()
            await local.mend()
            if has_arbiter(self.runtime):
                looks = 0
            elif scoreboards(self.runtime):
                break
            else:  # they have vanished: an arbiter that lives makes them again
                looks += 1
        self.logger.info("console: no arbiter is left, ending")
        self._is_orphan = not self._leaving.is_set()
        self._deadline = self.settings.graceful_timeout
        if self._leaving.is_set():  # an old console that waits for its last session
            shell.end_after(self._deadline)
        self._leaving.set()


def _listener(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        sock.set_inheritable(False)
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: socket {descriptor}: {error.strerror}") from error
    return sock


def main() -> int:
    """``python -m apihour_console``; returns the exit status."""
    text = os.environ.pop(VARIABLE, "")
    log = ConsoleLog()
    try:
        settings = Settings.from_json(text)
        log = ConsoleLog(settings.loglevel, settings.errorlog)
        _run(Console(settings, log))
    except ConfigurationError as error:
        log.logger.error("console: %s", error)
        return error.exit_status
    return 0


def _run(console: Console) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(console.run())
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(console.run())
