"""What the shell itself knows, as commands: who is logged in, and what was done.

These are given to the fleet as ``sessions`` and ``audit``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from apihour.ops.annotations import Address, Seconds
from apihour.ops.model import CommandFailed
from apihour_console.calls.call import latest
from apihour_console.shell.audit import AuditLog, AuditRecord

if TYPE_CHECKING:
    from apihour_console.fleet.context import ConsoleContext
    from apihour_console.shell.session import Session

__all__ = ["SessionRow", "audit_provider", "deeds_provider", "no_sessions", "sessions_provider"]

_KNOWN = 1000  # entries of the audit log that are looked at, at most


@dataclass(frozen=True)
class SessionRow:
    """One open session. `idle`: seconds since something was typed or run."""

    id: int
    user: str
    role: str
    address: Address
    age: Seconds
    idle: Seconds
    command: str
    fingerprint: str


class SessionKeeper(Protocol):
    """Who has the sessions: :class:`apihour_console.faces.ssh.ShellServer`."""

    def sessions(self) -> Iterable[Session]: ...
    def end_session(self, session: Session, why: str) -> None: ...


def sessions_provider(server: SessionKeeper) -> Callable[[ConsoleContext], list[SessionRow]]:
    """The command ``sessions`` of that server; with ``--kick`` its row is that which ended."""

    def sessions(context: ConsoleContext) -> list[SessionRow]:
        there = sorted(server.sessions(), key=lambda one: one.number)
        number = context.call.arguments.get("kick")
        if number is None:
            return [_session_row(one) for one in there]
        for one in there:
            if one.number == number:
                row = _session_row(one)
                server.end_session(one, f"ended by {context.identity.name}")
                return [row]
        known = ", ".join(str(one.number) for one in there) or "none at all"
        raise CommandFailed(f"session {number}: there is none of that id; there is {known}")

    return sessions


def no_sessions(context: ConsoleContext) -> list[SessionRow]:
    """The command ``sessions`` while the network shell is off."""
    number = context.call.arguments.get("kick")
    if number is not None:
        raise CommandFailed(f"session {number}: there is none, the network shell is off")
    return []


def _session_row(one: Session) -> SessionRow:
    return SessionRow(
        one.number, one.identity.name, str(one.identity.role), one.identity.address,
        time.monotonic() - one.started, one.idle, one.shell.current if one.shell else "",
        one.identity.fingerprint,
    )


def audit_provider(log: AuditLog) -> Callable[[ConsoleContext], Any]:
    """The command ``audit`` over that log."""

    async def audit(context: ConsoleContext) -> AsyncIterator[dict[str, Any]]:
        lines = int(context.call.arguments.get("lines") or 0)
        with log.follow() as queue:
            for row in latest(context.call, map(_row, log.recent(_KNOWN)), lines):
                yield row
            while context.call.follows:
                yield _row(await queue.get())

    return audit


def deeds_provider(log: AuditLog) -> Callable[[ConsoleContext], list[AuditRecord]]:
    """What ``events`` takes of that log: what this daemon's operators did."""
    return lambda context: [one for one in log.recent(_KNOWN) if one.daemon == log.daemon]


def _row(record: AuditRecord) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.time))
    return {**asdict(record), "time": moment}
