"""``apihour check`` and ``apihour protocols``: saying what would be served, serving nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from apihour.addresses import Address
from apihour.application import HostApplication
from apihour.binds import class_binds, match_servers, one_kind
from apihour.certificates import verify
from apihour.errors import ApihourError, ConfigurationError
from apihour.hooks import call_class, call_hook, takes_sockets
from apihour.plugins import Registry
from apihour.targets import load_target

__all__ = ["check", "list_protocols"]


def check(arguments: Sequence[str]) -> int:
    """Import, resolve the binds, match the servers, and print it.

    Raises ApihourError with the first thing that is wrong.
    """
    app = HostApplication(arguments, "apihour check")
    app.cfg.logger_class(app.cfg)
    cls = load_target(app.target)
    binds = app.resolve(class_binds(cls, cls.binds))
    verify(app.cfg, binds)
    for line in asyncio.run(_describe(app, cls, binds)):
        print(line)
    return 0


async def _describe(
    app: HostApplication, cls: type[Any], binds: dict[str, list[Address]]
) -> list[str]:
    container = call_class(
        cls, "__init__", config=app.container_config(), worker=None,
        loop=asyncio.get_running_loop(),
    )
    if takes_sockets(container):
        places = ", ".join(str(a) for addresses in binds.values() for a in addresses)
        return [f"{app.target}: make_servers(sockets) on {places}"]
    made = await call_hook(container, "make_servers")
    registry = Registry.from_entry_points()
    lines = [f"{app.target}: {app.cfg.worker_count} workers"]
    for name, served, names in match_servers(made, list(binds)):
        addresses = [address for bind in names for address in binds[bind]]
        kind = one_kind(name, (address.kind for address in addresses))
        server = registry.adapt(served, kind, name)
        lines.append(f"  {name:<12} {server.protocol:<8} {', '.join(map(str, addresses))}")
    return lines


def list_protocols() -> int:
    """Print every registered plugin and what it accepts; an unusable one says why."""
    try:
        registry = Registry.from_entry_points()
    except ApihourError as error:
        raise ConfigurationError(f"protocols: {error}") from error
    for plugin in registry:
        print(f"{plugin.name:<8} {plugin.describes}")
    for name, why in registry.unusable.items():
        print(f"{name:<8} unusable: {why}")
    return 0
