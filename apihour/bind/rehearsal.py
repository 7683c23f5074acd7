"""Whether a start would get its places, looked at without starting.

Rule: nothing is made, and nothing that serves is disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from apihour.bind.addresses import Address
from apihour.bind.listeners import try_bind

__all__ = ["busy_places"]


def busy_places(binds: Mapping[str, Iterable[Address]]) -> set[Address]:
    """The addresses that something has now, this very daemon perhaps.

    Raises BindError for one that could not be bound if nobody had it.
    """
    return {address for name, addresses in binds.items() for address in addresses
            if not try_bind(name, address)}
