"""What the shell itself knows, as commands: who is logged in, and what was done.

These are given to the fleet as ``sessions`` and ``audit``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from apihour.ops import Seconds
from apihour_console.audit import AuditLog, AuditRecord

if TYPE_CHECKING:
    from apihour_console.context import ConsoleContext
    from apihour_console.server import ShellServer

__all__ = ["SessionRow", "audit_provider", "sessions_provider"]


@dataclass(frozen=True)
class SessionRow:
    """One open session. `idle`: seconds since something was typed or run."""

    id: int
    user: str
    role: str
    address: str
    age: Seconds
    idle: Seconds
    command: str
    fingerprint: str


def sessions_provider(server: ShellServer) -> Callable[[ConsoleContext], list[SessionRow]]:
    """The command ``sessions`` of that server."""

    def sessions(context: ConsoleContext) -> list[SessionRow]:
        now = time.monotonic()
        return [
            SessionRow(
                one.number, one.identity.name, str(one.identity.role), one.identity.address,
                now - one.started, one.idle, one.shell.current if one.shell else "",
                one.identity.fingerprint,
            )
            for one in sorted(server.sessions(), key=lambda one: one.number)
        ]

    return sessions


def audit_provider(log: AuditLog) -> Callable[[ConsoleContext], Any]:
    """The command ``audit`` over that log."""

    async def audit(context: ConsoleContext) -> AsyncIterator[dict[str, Any]]:
        lines = int(context.call.arguments.get("lines") or 0)
        with log.follow() as queue:
            for record in log.recent(lines):
                yield _row(record)
            while context.call.follows:
                yield _row(await queue.get())

    return audit


def _row(record: AuditRecord) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.time))
    return {**asdict(record), "time": moment}
