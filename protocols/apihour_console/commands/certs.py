"""Which certificates clients get, and for how long still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apihour.ops.model import Catalogue
from apihour_console.shell.context import ConsoleContext

__all__ = ["Certificate", "commands", "merged"]

commands = Catalogue()


@dataclass(frozen=True)
class Certificate:
    """What a bind serves, and how many workers serve just that."""

    server: str
    address: str
    subject: str
    days_left: float | None
    expires: str
    issuer: str
    names: str
    workers: int
    fingerprint: str
    problem: str


@commands.command(collects="console")
async def certs(context: ConsoleContext) -> list[Certificate]:
    """Certificates that the TLS binds serve, the one that expires first on top.

    It is what clients get, asked of the workers: one that was renewed on disk is served after
    the next reload, and until then the old one is shown.
    """
    return merged(await context.ask("certs"))


def merged(rows: Iterable[Mapping[str, Any]]) -> list[Certificate]:
    """One row for each certificate of each bind, whatever the number of workers."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = row["server"], row["address"], row["fingerprint"], row["problem"]
        found.setdefault(key, []).append(row)
    made = [
        Certificate(one["server"], one["address"], one["subject"], one["days_left"],
                    one["expires"], one["issuer"], one["names"], len(same), one["fingerprint"],
                    one["problem"])
        for same in found.values() for one in same[:1]
    ]
    return sorted(made, key=lambda one: -1e9 if one.days_left is None else one.days_left)
