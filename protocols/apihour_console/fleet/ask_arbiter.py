"""Asking the arbiter, which may be handing its socket over, stopped, or gone.

Rules:

- While an upgrade hands the socket over it is waited for: nothing was asked yet.
- A stopped process is not asked, and one that is stopped while it is waited for not waited for
  longer than ten seconds: what it has not read by then it does not begin any more.
- Where it is not known whether it was done the error is of kind ``lost``, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from apihour.ipc.daemons import has_arbiter
from apihour.ipc.runtime import Runtime
from apihour.ops.model import CommandFailed, Role
from apihour_console.fleet.census import Census, Process
from apihour_console.fleet.link import Absent, Link, Unreachable

__all__ = ["ask_arbiter"]

_HANDED_OVER = 5.0  # seconds in which the arbiter's socket must be there again
_LOOK = 0.05  # seconds between two looks for it
_WATCH = 1.0  # seconds between two looks whether it is stopped
_STOPPED = 10  # such looks in a row


async def ask_arbiter(
    runtime: Runtime, census: Census, command: str, arguments: Mapping[str, Any], role: Role,
    deadline: float,
) -> list[dict[str, Any]]:
    """The rows of a command of the arbiter. Raises CommandFailed."""
    if pid := _stopped(census):
        raise CommandFailed(f"{command}: the arbiter (pid {pid}) is stopped by a signal, nothing "
                            f"was done; kill -CONT {pid} has it go on")
    patience = min(_HANDED_OVER, deadline / 2)
    end = time.monotonic() + patience
    while True:
        link = Link(runtime.arbiter_socket)
        try:
            return await _watched(census, link.call(command, arguments, role, deadline), command)
        except TimeoutError:
            raise CommandFailed(f"{command}: the arbiter gave no answer in {deadline:.0f} s; "
                                "whether it was done is not known, see workers", "lost") from None
        except Absent as error:
            if not has_arbiter(runtime):
                raise CommandFailed(f"{command}: no arbiter is left, nothing was done") from error
            if time.monotonic() > end:
                raise CommandFailed(f"{command}: {error}: the arbiter cannot be reached, nothing "
                                    f"was done; expected it within {patience:g} s") from error
        except Unreachable as error:
            raise CommandFailed(f"{command}: the arbiter ended before it answered; whether it was "
                                "done is not known, see workers", "lost") from error
        finally:
            link.close()
        await asyncio.sleep(_LOOK)


async def _watched(census: Census, call: Any, command: str) -> list[dict[str, Any]]:
    """What the call gives. Raises as it does, and CommandFailed once the arbiter is stopped."""
    calling = asyncio.ensure_future(call)
    looks = 0
    try:
        while looks < _STOPPED:
            await asyncio.wait({calling}, timeout=_WATCH)
            if calling.done():
                return list(calling.result())
            pid = _stopped(census)
            looks = looks + 1 if pid else 0
        raise CommandFailed(f"{command}: the arbiter (pid {pid}) is stopped by a signal; what it "
                            f"has begun it finishes after kill -CONT {pid}, see workers", "lost")
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)


def _stopped(census: Census) -> int:
    """The pid of the arbiter that serves, if it is stopped; else 0."""
    living = [one.arbiter for one in census.daemons() if one.alive]
    process = Process.read(living[-1]) if living else None
    return process.pid if process is not None and process.is_stopped else 0
