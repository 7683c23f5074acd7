"""Which certificates clients get, and for how long still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from apihour.ops.annotations import Acts
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed, Role
from apihour_console.fleet.context import ConsoleContext
from apihour_console.fleet.trouble import HealthRow

__all__ = ["Certificate", "commands", "expiring", "merged"]

commands = Catalogue()


@dataclass(frozen=True)
class Certificate:
    """What a bind serves, and how many workers serve just that."""

    server: str
    address: str
    subject: str
    days_left: float | None
    is_late: bool
    expires: str
    issuer: str
    names: str
    workers: int
    fingerprint: str
    file: str
    problem: str


@commands.command(collects="console", merges=True)
async def certs(
    context: ConsoleContext, action: Annotated[Literal["reload"] | None, Acts()] = None,
) -> list[Certificate]:
    """Certificates that the TLS binds serve, the one that expires first on top; or renew them.

    It is what clients get, asked of the workers. Files that have changed are served within
    seconds; what cannot be used of them is a problem, and the certificate from before goes on.

    Args:
        action: reload serves what the files hold now, in all workers; it needs role operator
    """
    if action is not None:
        if context.identity.role < Role.OPERATOR:
            raise CommandFailed(f"certs: {action} needs role operator", "role")
        refused = await context.ask("reload-certs")
        if refused:
            raise CommandFailed(f"certs: {refused[0]['problem']}; the certificate from before is "
                                "served on")
    return merged(await context.ask("certs"))


def merged(rows: Iterable[Mapping[str, Any]]) -> list[Certificate]:
    """One row for each certificate of each bind, whatever the number of workers."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = row["server"], row["address"], row["fingerprint"], row["file"], row["problem"]
        found.setdefault(key, []).append(row)
    made = [
        Certificate(one["server"], one["address"], one["subject"], one["days_left"],
                    one["is_late"], one["expires"], one["issuer"], one["names"], len(same),
                    one["fingerprint"], one["file"], one["problem"])
        for same in found.values() for one in same[:1]
    ]
    return sorted(made, key=lambda one: -1e9 if one.days_left is None else one.days_left)


def expiring(found: Iterable[Certificate]) -> Iterator[HealthRow]:
    """A row for each certificate; one with fewer than 14 days left, or a quarter, is not ok."""
    for one in found:
        if one.days_left is None:
            continue  # nobody can tell, and certs says why
        detail = (f"{one.address} {one.subject}: expired at {one.expires}" if one.days_left < 0
                  else f"{one.address} {one.subject}: {one.days_left:.1f} days left")
        if one.is_late:
            detail += "; one that is renewed in place is served"
        yield HealthRow(f"certificate of {one.server}",
                        "not ok" if one.is_late else "ok", detail)
