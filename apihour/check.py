"""``apihour check`` and ``apihour protocols``: saying what would be served, serving nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from apihour.addresses import Address
from apihour.application import HostApplication
from apihour.binds import class_binds, match_servers, one_kind, refuse_doubles
from apihour.certificates import verify
from apihour.config import server_options
from apihour.errors import ApihourError, ConfigurationError
from apihour.hooks import call_class, call_hook, takes_sockets
from apihour.plugins import Registry, is_shell
from apihour.sockets import DEFAULT_CONSOLE, may_open_shell, see_keys, wanted_extras
from apihour.targets import load_target
from apihour.values import WorkerCount

__all__ = ["check", "list_protocols"]

_EXTRAS = {"console": "ssh", "health": "http"}


def check(arguments: Sequence[str]) -> int:
    """Import, resolve the binds, match the servers, and print it.

    Raises ApihourError with the first thing that is wrong.
    """
    app = HostApplication(arguments, "apihour check")
    app.cfg.logger_class(app.cfg)
    cls = load_target(app.target)
    binds = app.resolve(class_binds(cls, cls.binds))
    verify(app.cfg, binds)
    extras = wanted_extras(app.cfg)
    refuse_doubles({**binds, **{f"--{name}": [place] for name, place in extras.items()}})
    if "console" in extras:
        see_keys(app.cfg.keys)
    lines, has_shell = asyncio.run(_describe(app, cls, binds))
    for line in [*lines, *_describe_extras(app.cfg, extras, has_shell)]:
        print(line)
    return 0


async def _describe(
    app: HostApplication, cls: type[Any], binds: dict[str, list[Address]]
) -> tuple[list[str], bool]:
    """The lines about the container's servers, and whether one of them is the shell."""
    container = call_class(
        cls, "__init__", config=app.container_config(), worker=None,
        loop=asyncio.get_running_loop(),
    )
    if takes_sockets(container):
        places = ", ".join(str(a) for addresses in binds.values() for a in addresses)
        return [f"{app.target}: make_servers(sockets) on {places}"], False
    made = await call_hook(container, "make_servers")
    registry = Registry.from_entry_points()
    matched = match_servers(made, list(binds))
    known = [name for name, _, _ in matched]
    lines, has_shell = [f"{app.target}: {_count(app.cfg.worker_count)}"], False
    for name, served, names in matched:
        addresses = [address for bind in names for address in binds[bind]]
        kind = one_kind(name, (address.kind for address in addresses))
        server = registry.adapt(served, kind, name)
        server_options(container.config, name, known, server)
        lines.append(_row(name, server.protocol, *addresses))
        has_shell = has_shell or is_shell(server)
    return lines, has_shell


def _describe_extras(cfg: Any, extras: Mapping[str, Address], has_shell: bool) -> list[str]:
    """What a start opens beside the container's own binds."""
    lines = [_row(f"--{name}", _EXTRAS[name], address) for name, address in extras.items()]
    if not (cfg.no_console or has_shell or "console" in extras) and may_open_shell(cfg):
        lines.insert(0, _row("--console", "ssh", DEFAULT_CONSOLE, "where it is free"))
    return lines


def _row(name: str, protocol: str, *places: object) -> str:
    return f"  {name:<12} {protocol:<8} {', '.join(map(str, places))}"


def _count(workers: WorkerCount) -> str:
    return f"{workers} worker{'' if workers.maximum == 1 else 's'}"


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
