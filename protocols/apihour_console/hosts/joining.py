"""Joining the fleet: the application has a bus over machines, and this host the fleet's key."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from apihour.bus import Bus, open_bus
from apihour.errors import ApihourError
from apihour.ipc.host_name import host_name
from apihour.ops.model import CommandFailed, Role
from apihour.version import __version__
from apihour_console.calls.call import RoleError
from apihour_console.fleet.census import Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.fleet import Fleet
from apihour_console.hosts.far_end import FarEnd
from apihour_console.hosts.fleet_keys import FleetKeys
from apihour_console.hosts.hosts import Hosts
from apihour_console.hosts.letters import Seal
from apihour_console.key_files import FLEET_KEY
from apihour_console.keys.authorized import AuthorizedKeys
from apihour_console.keys.directory import KeyDirectory, KeysError
from apihour_console.shell.audit import AuditLog

__all__ = ["join"]

Gained = TypeVar("Gained")

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4): of this start of the machine
_LOOK = 2.0  # seconds between two looks at the key, or for a worker that knows the bus
_RETRY = 5.0  # seconds between two attempts to reach the bus


async def join(
    fleet: Fleet, keys: Path, daemon: str, audit: AuditLog, logger: logging.Logger,
    says_bye: Callable[[], bool],
) -> None:
    """Be a host of the fleet until it is cancelled; what is in the way is told, and tried again.

    `says_bye` tells at its end whether the others shall expect this host no more.
    """
    read = await _tried(fleet, logger, lambda: _keys(keys / FLEET_KEY, logger))
    bus = await _tried(fleet, logger, lambda: _bus(fleet))
    seal, directory = Seal(read), KeyDirectory(keys)
    name = host_name()
    hosts = Hosts(name, re.sub(r"[^A-Za-z0-9_-]", "-", daemon), bus, seal, fleet, logger,
                  _home(fleet.runtime.path))
    hosts.far_end = FarEnd(name, bus, seal, fleet, audit, lambda: _authorized(directory), logger)
    hosts.facts = lambda: _facts(fleet)
    hosts.doubt = f"{keys / FLEET_KEY}: letters came that are sealed with another key, the last " \
                  "{:.0f} s ago; expected the same file on every host"
    try:
        await _tried(fleet, logger, hosts.start, _RETRY)
        fleet.hosts = hosts
        logger.info("fleet: host %s, with %d others", name, len(hosts.members.heard))
        await asyncio.Event().wait()
    finally:
        fleet.hosts = None
        await hosts.close(says_bye())
        await bus.close()


async def _tried(
    fleet: Fleet, logger: logging.Logger, attempt: Callable[[], Awaitable[Gained]],
    pause: float = _LOOK,
) -> Gained:
    """What `attempt` gives, once it gives something; `fleet.alone` is why it does not yet."""
    while True:
        try:
            return await attempt()
        except ApihourError as error:
            if str(error) != fleet.alone:
                fleet.alone = str(error)
                logger.warning("fleet: %s; this host is in no fleet, and tries again", error)
            await asyncio.sleep(pause)


async def _keys(path: Path, logger: logging.Logger) -> FleetKeys:
    return FleetKeys(path, logger)


async def _bus(fleet: Fleet) -> Bus:
    """The bus that the application's configuration says.

    Raises ConfigurationError, and CommandFailed when it is the embedded one, or when no worker
    could be asked yet.
    """
    there: list[Seen] = [one for one in fleet.census.workers() if one.row.state == "serving"]
    found: Collected = await fleet.collect("bus-settings", {}, Role.ADMIN, there[:1], 1.0)
    if not found.rows:
        raise CommandFailed("no worker serves yet that could say what bus: of the configuration is")
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
