"""What binds are served by where a daemon has sockets already: in a reload, after an upgrade.

Rule: a bind that only gets another name has the same socket under both until the old workers are
gone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from apihour.bind.addresses import BindAddress
from apihour.bind.listeners import Listener
from apihour.errors import BindError

__all__ = ["Wanted", "apply", "explain", "match"]

Wanted = tuple[str, BindAddress, int]


def match(
    wanted: Sequence[Wanted], have: Sequence[Listener]
) -> tuple[dict[Wanted, Listener], dict[Wanted, Listener], list[Wanted]]:
    """What each wanted one is served by: itself as it is, one of another name, or nothing yet.

    Raises BindError for what cannot be changed on a socket in use.
    """
    kept: dict[Wanted, Listener] = {}
    renamed: dict[Wanted, Listener] = {}
    missing: list[Wanted] = []
    stay = {(name, address.place) for name, address, _ in wanted}
    for key in wanted:
        name, address, slot = key
        # Port 0 is another place for each name.
        is_one = bool(address.port) or address.family not in ("tcp", "udp")
        held = [x for x in have if x.address.place == address.place
                and (is_one or x.name == name)]
        _refuse_switches(name, address, held)
        same = [x for x in held if x.name == name and x.slot == slot and x not in kept.values()]
        other = [x for x in held if x.slot == slot and (x.name, address.place) not in stay]
        if same:
            kept[key] = same[0]
        elif other and other[0] not in renamed.values():
            renamed[key] = other[0]
        elif held and slot and not address.port:
            missing.append((name, replace(address, port=held[0].getsockname()[1]), slot))
        else:
            missing.append(key)
    return kept, renamed, missing


def _refuse_switches(name: str, address: BindAddress, held: Sequence[Listener]) -> None:
    if not held:
        return
    before = held[0].address
    for option, is_switched in (
        ("sticky", before.sticky != address.sticky),
        ("reuse_port", before.reuse_port != address.reuse_port),
        # Old and new workers accept on it side by side, and clients speak one or the other.
        ("tls", (before.tls is None) != (address.tls is None)),
    ):
        if is_switched:
            raise BindError(f"bind {name}={address}: {option} cannot be switched on a socket in "
                            "use; restart instead")


def explain(error: BindError, missing: Sequence[Wanted], have: Sequence[Listener]) -> BindError:
    """Say so when what stands in the way is a socket of this very daemon."""
    for _, address, _ in missing:
        for listener in have:
            if address.port and address.port == listener.address.port:
                return BindError(f"{error} (this daemon holds {listener} itself)")
    return error


def apply(listener: Listener, backlog: int) -> None:
    """Give a socket that stays what its bind says now: backlog and permissions."""
    listener.listen(backlog)
    if listener.owns_path and listener.address.mode is not None and listener.inode is not None:
        os.chmod(listener.address.host, listener.address.mode)
