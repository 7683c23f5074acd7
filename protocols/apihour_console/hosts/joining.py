"""Joining the fleet: the application has a bus over machines, and this host the fleet's key."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from apihour.bus import Bus, BusError, open_bus
from apihour.bus.host_name import host_name
from apihour.errors import ApihourError
from apihour.ops.model import CommandFailed, Role
from apihour.version import __version__
from apihour_console.calls.call import RoleError
from apihour_console.fleet.census import Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.fleet import Fleet
from apihour_console.hosts.far_end import FarEnd
from apihour_console.hosts.hosts import Hosts
from apihour_console.hosts.letters import Seal, read_fleet_key
from apihour_console.key_files import FLEET_KEY
from apihour_console.keys.authorized import AuthorizedKeys
from apihour_console.keys.directory import KeyDirectory, KeysError
from apihour_console.shell.audit import AuditLog

__all__ = ["joined"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4): of this start of the machine
_LOOK = 2.0  # seconds between two looks for a worker that knows the bus
_RETRY = 5.0  # seconds between two attempts to reach the bus


@contextlib.asynccontextmanager
async def joined(
    fleet: Fleet, keys: Path, daemon: str, audit: AuditLog, logger: logging.Logger,
    says_bye: Callable[[], bool],
) -> AsyncIterator[None]:
    """Be a host of the fleet for the time of the block, if there is one to join.

    `says_bye` tells at its end whether the others shall expect this host no more.
    """
    key = None
    try:
        key = read_fleet_key(keys / FLEET_KEY)
    except ApihourError as error:
        logger.error("%s; this host is in no fleet", error)
    if key is None:
        yield
        return
    joining = asyncio.create_task(
        _join(fleet, KeyDirectory(keys), daemon, Seal(key), audit, logger, says_bye))
    joining.add_done_callback(functools.partial(_tell, logger))
    try:
        yield
    finally:
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)


def _tell(logger: logging.Logger, joining: asyncio.Task[None]) -> None:
    """Say why this host is in no fleet any more, if something unforeseen is the cause."""
    if not joining.cancelled() and (error := joining.exception()) is not None:
        logger.error("fleet: %r; this host is in no fleet", error, exc_info=error)


async def _join(
    fleet: Fleet, keys: KeyDirectory, daemon: str, seal: Seal, audit: AuditLog,
    logger: logging.Logger, says_bye: Callable[[], bool],
) -> None:
    bus = None
    while bus is None:
        try:
            bus = await _bus(fleet)
        except ApihourError as error:
            logger.error("fleet: %s; this host is in no fleet", error)
            return
        if bus is None:
            await asyncio.sleep(_LOOK)
    name = host_name()
    hosts = Hosts(name, re.sub(r"[^A-Za-z0-9_-]", "-", daemon), bus, seal, fleet, logger,
                  _home(fleet.runtime.path))
    hosts.far_end = FarEnd(name, bus, seal, fleet, audit, lambda: _authorized(keys), logger)
    hosts.facts = lambda: _facts(fleet)
    try:
        await _start(hosts, logger)
        fleet.hosts = hosts
        logger.info("fleet: host %s, with %d others", name, len(hosts.members.heard))
        await asyncio.Event().wait()
    finally:
        fleet.hosts = None
        await hosts.close(says_bye())
        await bus.close()


async def _start(hosts: Hosts, logger: logging.Logger) -> None:
    """Try until the bus is there."""
    said = ""
    while True:
        try:
            return await hosts.start()
        except BusError as error:
            if str(error) != said:
                said = str(error)
                logger.warning("fleet: %s; trying again", error)
            await asyncio.sleep(_RETRY)


async def _bus(fleet: Fleet) -> Bus | None:
    """The bus that the application's configuration says; None: no worker could be asked yet.

    Raises ConfigurationError, and CommandFailed when it is the embedded one.
    """
    there: list[Seen] = [one for one in fleet.census.workers() if one.row.state == "serving"]
    if not there:
        return None
    found: Collected = await fleet.collect("bus-settings", {}, Role.ADMIN, there[:1], 1.0)
    if not found.rows:
        return None
    config = found.rows[0]["config"]
    if config is None:
        raise CommandFailed(f"{FLEET_KEY} is there, and bus: of the configuration is not; "
                            "expected nats://HOST:PORT")
    return open_bus(config, fleet.runtime.path / "bus")


def _home(runtime: Path) -> str:
    """What consoles of one daemon have in common: its runtime directory, on this machine."""
    there = runtime.stat()
    return f"{_BOOT.read_text().strip()}:{there.st_dev}:{there.st_ino}"


def _authorized(keys: KeyDirectory) -> AuthorizedKeys:
    try:
        return keys.read_authorized()
    except KeysError as error:
        raise RoleError(str(error)) from error


def _facts(fleet: Fleet) -> dict[str, Any]:
    """What this host tells of itself."""
    there = fleet.census.workers()
    serving = [one for one in there if one.row.state == "serving" and not one.is_stuck]
    arbiter = next((one for one in fleet.census.daemons()[::-1] if one.alive), None)
    counted = {} if arbiter is None else {
        "arbiter": arbiter.arbiter, "reloads": arbiter.reloads, "failed": arbiter.reloads_failed}
    return {**counted, "status": "ok" if serving else "no worker serves", "workers": len(serving),
            "generation": max((one.row.generation for one in there), default=0),
            "version": __version__}
