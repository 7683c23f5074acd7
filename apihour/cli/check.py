"""``apihour check`` and ``apihour protocols``: saying what would be served, serving nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from types import SimpleNamespace
from typing import Any

from apihour.app.hook_faults import cannot_start
from apihour.app.hooks import (
    call_class,
    call_hook,
    make_loop,
    see_hooks,
    takes_sockets,
)
from apihour.app.target import load_target
from apihour.bind.addresses import BindAddress
from apihour.bind.binds import class_binds, match_servers, one_kind, refuse_doubles
from apihour.bind.sockets import DEFAULT_CONSOLE, may_open_shell, see_keys, wanted_extras
from apihour.bus import open_bus
from apihour.cli.dry_run import see_files, try_bind
from apihour.config.application import HostApplication
from apihour.config.tree import server_options
from apihour.config.values import WorkerCount
from apihour.engines.engine_set import declare
from apihour.errors import ApihourError, ConfigurationError, UsageError
from apihour.jobs.container_jobs import check_jobs
from apihour.limits.layers import declared_options
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.plugins import Registry, Server, is_shell
from apihour.shared.chosen import examine
from apihour.single.singles import see_singles
from apihour.tls.certificates import verify
from apihour.worker.misfits import refuse_lost_options, refuse_lost_tls

__all__ = ["check", "list_protocols"]

_NOT_RUN = "not run: pre_start(), start() and what the servers do at their start"
_EXTRAS = {"console": "ssh", "health": "http"}


def check(arguments: Sequence[str]) -> int:
    """Import, resolve the binds, match the servers, and print it.

    Raises ApihourError with the first thing that is wrong.
    """
    app = HostApplication(arguments, "apihour check")
    app.cfg.logger_class(app.cfg)
    cls = load_target(app.target, app.cfg.factory)
    binds = app.configuration.resolve(class_binds(cls, cls.binds))
    verify(app.cfg, binds)
    extras = wanted_extras(app.cfg)
    refuse_doubles({**binds, **{f"--{name}": [place] for name, place in extras.items()}})
    if "console" in extras:
        see_keys(app.cfg.keys, app.cfg.uid)
    see_files(app.cfg)
    places = {**binds, **{f"@{name}": [place] for name, place in extras.items()}}
    busy = {address for name, addresses in places.items() for address in addresses
            if not try_bind(name, address)}
    config = app.configuration.container_config()
    with asyncio.Runner(loop_factory=lambda: make_loop(cls, config)) as runner:
        lines, has_shell = runner.run(_describe(app, cls, config, binds, busy))
    for line in [*lines, *_describe_extras(app.cfg, extras, has_shell, busy), _NOT_RUN]:
        print(line)
    for note in app.configuration.notes:
        print(f"  {note}")
    return 0


async def _describe(
    app: HostApplication, cls: type[Any], config: dict[str, Any],
    binds: dict[str, list[BindAddress]], busy: Set[BindAddress],
) -> tuple[list[str], bool]:
    """The lines about the container's servers, and whether one of them is the shell."""
    # What make_servers() may ask of its worker: `apihour check` refuses nothing that a start takes.
    worker = SimpleNamespace(name="check", cfg=app.cfg)
    container = call_class(
        cls, "__init__", config=config, worker=worker, loop=asyncio.get_running_loop())
    see_hooks(container)
    _see_configuration(container)
    if not app.cfg.no_console:
        built_in().update(Catalogue.of(container))
    engines = _describe_engines(
        declare(await call_hook(container, "make_engines"), container.config.get("engines")))
    if takes_sockets(container):
        places = ", ".join(str(a) for addresses in binds.values() for a in addresses)
        return [f"{app.target}: make_servers(sockets) on {places}", *engines], False
    made = await call_hook(container, "make_servers")
    registry = Registry.from_entry_points()
    matched = match_servers(made, list(binds))
    known = [name for name, _, _ in matched]
    see_singles(container, {
        name: [address for bind in names for address in binds[bind]] for name, _, names in matched})
    lines, has_shell = [f"{app.target}: {_count(app.cfg.worker_count)}"], False
    for name, served, names in matched:
        addresses = [address for bind in names for address in binds[bind]]
        kind = one_kind(name, (address.kind for address in addresses))
        server = registry.adapt(served, kind, name)
        options = server_options(container.config, name, known, server)
        by_name = {f"{bind}={address}": address for bind in names for address in binds[bind]}
        declared = declared_options(served, container.config, name)
        refuse_lost_tls(name, server, by_name)
        refuse_lost_options(name, server, declared, by_name)
        _examine(name, server, app.cfg.request_limits, options)
        lines.append(_row(name, server.protocol, *(_shown(one, busy) for one in addresses))
                     + (f"  (where its bind does not say: {declared})" if declared else ""))
        has_shell = has_shell or is_shell(server)
    return [*lines, *engines], has_shell


def _see_configuration(container: Any) -> None:
    """See what a worker's start would refuse of it; nothing is reached.

    Raises ConfigurationError.
    """
    check_jobs(container)
    examine(container.config.get("shared"))
    open_bus(container.config.get("bus"), "")
    getattr(container, "tracer", None)  # raises where it is to be, and cannot


def _examine(
    name: str, server: Server, limits: Mapping[str, int], options: Mapping[str, Any]
) -> None:
    """See, without starting it, that a server can do with what its context will say.

    Raises HookError as its start would.
    """
    look = getattr(server, "examine", None)
    if look is None:
        return
    try:
        look(limits, options)
    except Exception as error:
        raise cannot_start(name, server, error) from error


def _describe_engines(engines: Mapping[str, Any]) -> list[str]:
    """A line for each engine; what it needs is there."""
    lines = []
    for name, engine in engines.items():
        place = ""
        if hasattr(engine, "examine"):
            engine.name = name  # of whose faults it is told
            place = engine.examine()
        lines.append(f"  engine {name:<12} {engine.kind:<8} {place}".rstrip())
    return lines


def _describe_extras(
    cfg: Any, extras: Mapping[str, BindAddress], has_shell: bool, busy: Set[BindAddress]
) -> list[str]:
    """What a start opens beside the container's own binds."""
    lines = [_row(f"--{name}", _EXTRAS[name], _shown(address, busy))
             for name, address in extras.items()]
    if not (cfg.no_console or has_shell or "console" in extras) and may_open_shell(cfg):
        lines.insert(0, _row("--console", "ssh", DEFAULT_CONSOLE, "where it is free"))
    return lines


def _shown(address: BindAddress, busy: Set[BindAddress]) -> str:
    return f"{address} (in use now)" if address in busy else str(address)


def _row(name: str, protocol: str, *places: object) -> str:
    return f"  {name:<12} {protocol:<8} {', '.join(map(str, places))}"


def _count(workers: WorkerCount) -> str:
    return f"{workers} worker{'' if workers.maximum == 1 else 's'}"


def list_protocols(words: Sequence[str]) -> int:
    """Print every registered plugin and what it accepts; an unusable one says why."""
    if list(words) in (["-h"], ["--help"]):
        print("usage: apihour protocols\n\nThe plugins there are, and what each accepts.")
        return 0
    if words:
        raise UsageError(f"protocols: takes no arguments, got {' '.join(words)!r}")
    try:
        registry = Registry.from_entry_points()
    except ApihourError as error:
        raise ConfigurationError(f"protocols: {error}") from error
    for plugin in registry:
        print(f"{plugin.name:<8} {plugin.describes}")
    for name, why in registry.unusable.items():
        print(f"{name:<8} unusable: {why}")
    return 0
