"""Bans by the shell: ban, bans, unban.

Rules:

- The arbiter writes; then every worker is told, so that a ban holds when the command returns.
  One that does not answer is named, and takes it with its next heartbeat.
- Nobody is locked out without having been warned: what covers an operator's own address, the
  machine itself or much of the world wants ``--yes``. Sessions that are open stay open, and
  ``apihour ctl`` is no network.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from apihour.bind.ban_book import Network, parse_network, read_bans
from apihour.bind.peers import host_of
from apihour.ops.annotations import Duration, Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import CommandFailed
from apihour.ops.rows import to_rows
from apihour_console.calls.call import Identity
from apihour_console.calls.networks import why_unclear
from apihour_console.fleet.context import ConsoleContext

__all__ = ["commands"]

commands = Catalogue()

_WIDE = {4: 8, 6: 16}  # bits of prefix; a shorter one bans a large part of all there are
_LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


@dataclass(frozen=True)
class BanRow:
    """A ban in force; `refused` connections over all workers that live, and the shell."""

    network: str
    left: Seconds
    refused: int
    by: str
    since: str


@dataclass(frozen=True)
class Banned:
    """A ban that was made, and how many open connections it has ended."""

    network: str
    left: Seconds
    closed: int


@dataclass(frozen=True)
class Unbanned:
    """A ban that was ended, and how long it would have held on."""

    network: str
    left: Seconds


@commands.command(role="operator", acts="daemon", collects="console", deadline=5.0)
async def ban(
    context: ConsoleContext, address: str,
    *, for_: Annotated[Duration, "how long"] = 600.0,
    yes: Annotated[bool, "even where operators, this machine or many others are"] = False,
) -> list[Banned]:
    """Refuse an address or a network at every bind and the shell, and end its connections.

    It holds for all workers, those that start later too, until its time is over or unban, and for
    what a believed proxy asks for on its behalf by HTTP (403); not for datagrams, for servers that
    accept by themselves, and for the health address. An IPv6 client has a whole /64 to itself: ban
    that. Open sessions of the shell stay.

    Args:
        address: 10.0.0.7, 10.0.0.0/8, 2001:db8::/64; a port is left out
    """
    if unclear := why_unclear(address):
        raise CommandFailed(f"ban: {unclear}", "usage")
    network = _network("ban", address)
    if for_ <= 0:
        raise CommandFailed("ban: --for 0: expected a time such as 10m or 2h", "usage")
    why = None if yes else _danger(context, network)
    if why:
        raise CommandFailed(f"ban {network}: {why}; expected --yes with it. "
                            "(apihour ctl on this machine gets in whatever is banned)")
    who = context.identity.name
    [row] = await context.arbiter(
        "ban", 5.0, network=str(network), seconds=for_, by=who)
    closed = await context.ask("heed-bans", 2.0, context.fleet.choose())
    ended = sum(_covers(network, row["peer"]) for row in closed)
    return [Banned(row["network"], row["left"], ended)]


@commands.command(collects="console")
async def bans(context: ConsoleContext) -> list[BanRow]:
    """Addresses and networks that are refused, for how long still, and how often they came"""
    try:
        there = read_bans(context.fleet.runtime.bans)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"bans: {error}") from error
    counts = Counter(context.fleet.refused_bans())
    for row in await context.ask("refused-bans", 1.8, context.fleet.choose()):
        counts[row["network"]] += row["refused"]
    return [
        BanRow(one.network, one.left, counts[one.network], one.by,
               time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.since)))
        for one in there
    ]


@commands.command(role="operator", acts="daemon", collects="console", deadline=5.0)
async def unban(context: ConsoleContext, address: str) -> list[Unbanned]:
    """End a ban.

    Args:
        address: the network as bans shows it, or all
    """
    word = address if address == "all" else str(_network("unban", address))
    rows = await context.arbiter("unban", 5.0, network=word)
    await context.ask("heed-bans", 2.0, context.fleet.choose())
    if not rows:
        context.hints.append("unban: nobody was banned")
    return [Unbanned(row["network"], row["left"]) for row in rows]


def _network(command: str, text: str) -> Network:
    try:
        return parse_network(text)
    except ValueError as error:
        raise CommandFailed(f"{command}: {error}", "usage") from None


def _danger(context: ConsoleContext, network: Network) -> str:
    """Why that ban may be a mistake, or nothing."""
    if _covers(network, context.identity.address):
        return f"that is where you come from ({host_of(context.identity.address)})"
    for who in _operators(context):
        if _covers(network, who.address):
            return f"that is where {who.name} is logged in from ({host_of(who.address)})"
    own = next((one for one in _LOOPBACK if one in network), None)
    if own is not None:
        return f"it covers this machine itself, and a proxy on it ({own})"
    if network.prefixlen < _WIDE[network.version]:
        return f"that is {network.num_addresses:.2g} addresses"
    return ""


def _operators(context: ConsoleContext) -> list[Identity]:
    """Who is logged in to the shell."""
    sessions = context.fleet.providers.get("sessions")
    rows: list[dict[str, Any]] = to_rows(sessions(context)) if sessions is not None else []
    return [Identity(row["user"], address=row["address"]) for row in rows]


def _covers(network: Network, peer: str) -> bool:
    try:
        other = parse_network(peer)
    except ValueError:
        return False  # local, or a unix socket
    return other.version == network.version and other.subnet_of(network)  # type: ignore[arg-type]
