"""The shell served from a worker's own loop: ``apihour_ssh.Shell(in_worker=True)``.

Rules:

- The same catalogue, keys, roles and limits as in the console process; the fleet is reached
  by the agents' sockets, this worker's own included.
- The core accepts, and drains; here are only sessions.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apihour.ipc.runtime import Runtime
from apihour_console.calls.call import Identity
from apihour_console.commands import operations
from apihour_console.faces.ssh import ServerSettings, ShellServer
from apihour_console.fleet.fleet import Fleet
from apihour_console.keys.directory import KeyDirectory, prepare
from apihour_console.shell.audit import AuditLog, daemon_label
from apihour_console.shell.providers import audit_provider, deeds_provider, sessions_provider
from apihour_ssh.limits import Limits

__all__ = ["WorkerShell", "make_server"]


def make_server(context: Any, options: Mapping[str, Any]) -> WorkerShell:
    """The server behind ``Shell(in_worker=True)``.

    `context` is the :class:`apihour.plugins.ServerContext`; `options` may name ``keys`` (a
    directory), ``strict``, ``idle_timeout``, ``login_timeout`` (seconds) and ``limits``.
    """
    return WorkerShell(context, options)


class WorkerShell:
    """A server of stream connections (:class:`apihour.plugins.Server`)."""

    protocol = "ssh"

    def __init__(self, context: Any, options: Mapping[str, Any]) -> None:
        worker = context.container.worker
        self._context = context
        self._options = options
        self._fleet = Fleet(
            Runtime(worker.runtime.path), context.logger, operations.commands)
        self._keys = KeyDirectory(options.get("keys") or os.path.abspath(worker.cfg.keys))
        self._started = False
        limits = options.get("limits")
        settings = ServerSettings(
            name=context.name, greeting=self._greeting, history=self._keys.path,
            strict=bool(options.get("strict", worker.cfg.ssh_strict)),
            login_timeout=float(options.get("login_timeout", 20.0)),
            idle_timeout=float(options.get("idle_timeout", 1800.0)),
            limits=limits if isinstance(limits, Limits) else Limits(**(limits or {})),
        )
        path = self._keys.path / "audit.jsonl"
        daemon = daemon_label(worker.runtime.path, getattr(worker.cfg, "proc_name", context.name))
        self._server = ShellServer(
            self._fleet, AuditLog(path, context.logger, daemon), self._keys, settings,
            context.logger)
        self._fleet.providers["sessions"] = sessions_provider(self._server)
        self._fleet.providers["audit"] = audit_provider(self._server.audit)
        self._fleet.providers["deeds"] = deeds_provider(self._server.audit)

    def _greeting(self, identity: Identity) -> str:
        worker = getattr(self._context.container.worker, "name", "")
        return (
            f"{self._context.name} in worker {worker}: {identity.name} is {identity.role}; "
            "help lists the commands, Ctrl-D leaves"
        )

    async def start(self, context: Any = None) -> None:
        """Look at the fleet, get the keys ready; without any, connections are refused."""
        prepared = prepare(
            self._keys, terminal=sys.stdin.isatty() and sys.stderr.isatty(),
            root=os.geteuid() == 0, home=Path.home(),
        )
        for note in prepared.notes:
            self._context.logger.info("shell: %s", note)
        if prepared.host_key is not None:
            self._server.configure(prepared.host_key, prepared.authorized)
        else:
            self._context.logger.warning("shell: %s", prepared.off)
        await self._fleet.start()
        self._started = True
        self._server.watch()

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """The protocol of one connection; over a limit, one that closes it at once."""
        peer = getattr(conn, "peer_address", None)
        true_peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        if conn is not None:
            conn.state = "shell"
        return self._server.arrival(true_peer[0] if true_peer else "", true_peer)

    async def drain(self, deadline: float) -> None:
        """Tell the operators; return when the last has left. `deadline`: of ``loop.time()``."""
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        await self._server.drain(left, f"{self._context.name}: this worker is going")

    async def stop(self) -> None:
        """End what is left."""
        await self._server.stop("the worker ends")
        if self._started:
            self._started = False
            await self._fleet.close()

    def statistics(self) -> Mapping[str, Any]:
        """Connections open and refused, sessions."""
        admission = self._server.admission
        return {
            "connections": admission.open, "starting": admission.starting,
            "refused": dict(admission.refused), "open_sessions": len(list(self._server.sessions())),
        }
