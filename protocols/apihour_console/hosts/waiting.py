"""Until there is ``fleet.key``, a host is in no fleet: nothing of one is imported before."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from apihour_console.fleet.fleet import Fleet
from apihour_console.key_files import FLEET_KEY
from apihour_console.shell.audit import AuditLog

__all__ = ["joined"]

_LOOK = 2.0  # seconds between two looks whether there is one
_NONE = "{}: there is none; expected a key that all hosts of the fleet have: apihour keys fleet"


@contextlib.asynccontextmanager
async def joined(
    fleet: Fleet, keys: Path, daemon: str, audit: AuditLog, logger: logging.Logger,
    says_bye: Callable[[], bool],
) -> AsyncIterator[None]:
    """Be a host of the fleet for the time of the block, as soon as there is one to join.

    `says_bye` tells at its end whether the others shall expect this host no more.
    """
    joining = asyncio.create_task(_join(fleet, keys, daemon, audit, logger, says_bye))
    joining.add_done_callback(functools.partial(_tell, fleet, logger))
    try:
        yield
    finally:
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)


def _tell(fleet: Fleet, logger: logging.Logger, joining: asyncio.Task[None]) -> None:
    """Say why this host is in no fleet any more, if something unforeseen is the cause."""
    if not joining.cancelled() and (error := joining.exception()) is not None:
        fleet.alone = repr(error)
        logger.error("fleet: %r; this host is in no fleet", error, exc_info=error)


async def _join(
    fleet: Fleet, keys: Path, daemon: str, audit: AuditLog, logger: logging.Logger,
    says_bye: Callable[[], bool],
) -> None:
    path = keys / FLEET_KEY
    while not _is_there(path):
        fleet.alone = _NONE.format(path)
        await asyncio.sleep(_LOOK)
    from apihour_console.hosts.joining import join

    await join(fleet, keys, daemon, audit, logger, says_bye)


def _is_there(path: Path) -> bool:
    """Whether there is something that its reader has to say more of."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
