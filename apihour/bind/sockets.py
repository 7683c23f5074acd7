"""Which sockets the arbiter must hold: what is wanted beside what it has.

Rules: a socket whose bind stays is kept, and never closed meanwhile; new ones are opened
before anything old is closed; all that are missing are opened, or none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apihour.bind.addresses import BindAddress, parse_address
from apihour.bind.listeners import Listener, open_listeners
from apihour.errors import AddressError, BindError, ConfigurationError
from apihour.installed import console_module, key_files

if TYPE_CHECKING:
    from apihour.bind.matching import Wanted

__all__ = [
    "DEFAULT_CONSOLE", "discard", "log_binds", "may_open_shell", "open_binds",
    "open_extras", "see_keys", "share_out", "wanted_extras",
]

DEFAULT_CONSOLE = "127.0.0.1:8022"



def open_binds(
    binds: Mapping[str, Sequence[BindAddress]], cfg: Any, slots: int, have: Sequence[Listener],
    named: Mapping[str, list[Any]],
) -> list[Listener]:
    """Listeners for `binds`, those of `have` kept.

    A ``?reuse_port`` bind gets one for each of `slots` workers, and keeps those it has: what
    waits on a socket that is closed is lost. `named` are systemd's.
    Raises BindError with one line; nothing is left open then.
    """
    wanted = [
        (name, address, slot)
        for name, addresses in binds.items() for address in addresses
        for slot in _slots(address, slots, have)
    ]
    kept: dict[Wanted, Listener] = {}
    renamed: dict[Wanted, Listener] = {}
    missing = wanted
    if have:
        from apihour.bind.matching import explain, match  # read where there are some already

        kept, renamed, missing = match(wanted, have)
    try:
        opened = open_listeners(missing, cfg.backlog, named, cfg.umask, (cfg.uid, cfg.gid))
    except BindError as error:
        if not have:
            raise
        raise explain(error, missing, have) from error
    fresh = iter(opened)
    for key, before in renamed.items():
        kept[key] = Listener(*key[:2], before.sock.dup(), before.owns_path, before.slot)
    everything = [kept.get(key) or next(fresh) for key in wanted]
    for (_, address, _), listener in zip(wanted, everything, strict=True):
        listener.address = address
    try:
        share_out(everything, [one for one in everything if one not in opened])
    except BindError:
        discard(opened, ())
        raise
    return everything


def share_out(listeners: Sequence[Listener], spared: Sequence[Listener] = ()) -> None:
    """Let clients come to all sockets of each ``?sticky`` bind of these. Raises BindError.

    Not of a bind that has one of the `spared`: in a reload its new sockets have readers only when
    the new workers are ready.
    """
    if any(one.address.sticky for one in listeners):
        from apihour.bind.sticky import share_out_groups  # read where it is asked only

        share_out_groups(listeners, spared)


def _slots(address: BindAddress, slots: int, have: Iterable[Listener]) -> range:
    """The slots that one bind has sockets for; 0 is that of a shared one."""
    if not address.reuse_port:
        return range(1)
    held = [listener.slot for listener in have if listener.address.place == address.place]
    return range(1, max(slots, *held, 1) + 1)


def discard(gone: Iterable[Listener], kept: Iterable[Listener]) -> None:
    """Close listeners and remove their socket files, but none that one of `kept` is bound to."""
    inodes = {listener.inode for listener in kept}
    for listener in gone:
        listener.close()
        if listener.inode is None or listener.inode not in inodes:
            listener.unlink()


def log_binds(log: Any, before: Iterable[Listener], now: Iterable[Listener]) -> None:
    """Say which binds have been closed and opened; the slots of one are one."""
    old, new = ({str(x): None for x in those} for those in (before, now))
    for place in old:
        if place not in new:
            log.info("No longer listening at: %s", place)
    for place in new:
        if place not in old:
            log.info("Listening at: %s", place)


def wanted_extras(cfg: Any) -> dict[str, BindAddress]:
    """The addresses that the options give the console and health; no default is in it.

    Raises ConfigurationError or PluginError with one line for what a start would refuse.
    """
    if cfg.no_console and cfg.health:
        raise ConfigurationError(f"--health {cfg.health!r}: the console process serves it; "
                                 "expected no --no-console with it")
    if not cfg.no_console:
        console_module()
    wanted: dict[str, BindAddress] = {}
    for name in () if cfg.no_console else ("console", "health"):
        text = getattr(cfg, name)
        if not text:
            continue
        try:
            wanted[name] = parse_address(text)
        except AddressError as error:
            raise ConfigurationError(f"--{name}: {text!r}; expected {error.expected}") from error
    return wanted


def open_extras(cfg: Any, have: Mapping[str, Listener]) -> dict[str, Listener]:
    """The console's and health's own listeners under `cfg`, those of `have` kept.

    Raises ConfigurationError or BindError with one line.
    """
    wanted = wanted_extras(cfg)
    held = have.get("console")
    if "console" not in wanted and held is not None and not cfg.no_console and may_open_shell(cfg):
        wanted["console"] = held.address  # the default one, opened when it was free
    kept = {name: have[name] for name, address in wanted.items()
            if name in have and have[name].address.place == address.place}
    if "console" in wanted and "console" not in kept:
        see_keys(cfg.keys, cfg.uid)
    missing = [(f"@{name}", address, 0) for name, address in wanted.items() if name not in kept]
    opened = open_listeners(missing, cfg.backlog, {}, cfg.umask, (cfg.uid, cfg.gid))
    return {**kept, **{listener.name[1:]: listener for listener in opened}}


def see_keys(directory: str, uid: int | None = None) -> None:
    """Refuse a shell that was asked for, when the keys there cannot be read or trusted.

    `uid`: the user the console will run as; by default the one that asks. Raises
    ConfigurationError with one line.
    """
    try:
        key_files().check_keys(directory, os.geteuid() if uid is None else uid)
    except ValueError as error:
        raise ConfigurationError(f"--keys {directory!r}: {error}") from error


def may_open_shell(cfg: Any) -> bool:
    """Without a terminal and without authorised keys the network shell stays off."""
    return (sys.stderr.isatty() and sys.stdin.isatty()) or key_files().has_keys(cfg.keys)
