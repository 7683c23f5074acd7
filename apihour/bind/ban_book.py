"""Bans as they are written and looked up: what is behind apihour.bind.bans once there is one.

Rules:

- The truth is one file of the runtime directory, so a ban holds for every worker, those that
  start later too, across reloads and upgrades, and ends with the daemon. Only the arbiter
  writes it, a whole file at a time; workers and console look whether it is another one.
- Times are CLOCK_MONOTONIC, which all processes of a machine share: setting the clock neither
  ends a ban nor prolongs it.
- With bans an accepted connection pays one look per length of prefix there is, however many
  there are of each.
- A peer of no IP address (a unix socket) is never banned.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apihour.bind.peers import host_of
from apihour.ipc.state_files import replace_json

__all__ = ["MOST", "Ban", "BanBook", "BanTable", "Network", "parse_network", "read_bans"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST = 1000  # bans at a time; more are a firewall's work


@dataclass(frozen=True)
class Ban:
    """One ban: until when (CLOCK_MONOTONIC), since when (a time of day), and by whom."""

    network: str
    until: float
    since: float
    by: str = ""

    @property
    def left(self) -> float:
        """Seconds until it ends; nothing or less: it is over."""
        return self.until - time.monotonic()


def parse_network(text: str) -> Network:
    """An address (its port is left out) or a network. Raises ValueError, one line.

    Of a network the bits of the host may be set: ``10.1.2.3/8`` is ``10.0.0.0/8``.
    """
    try:
        found = ipaddress.ip_network(host_of(text).partition("%")[0], strict=False)
    except ValueError:
        raise ValueError(f"{text!r:.80}: expected an address or a network such as 10.0.0.7, "
                         "10.0.0.0/8 or 2001:db8::/64") from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is not None and found.prefixlen >= 96:
        return ipaddress.IPv4Network((mapped, found.prefixlen - 96))
    return found


def read_bans(path: Path) -> list[Ban]:
    """The bans of that file that are not over; none where there is no file.

    Raises ValueError when it holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        found = [Ban(**one) for one in json.loads(text)]
    except TypeError as error:
        raise ValueError(f"{path}: {error}; expected a list of bans") from error
    return [ban for ban in found if ban.left > 0]


class BanBook:
    """The arbiter's side: the only one that writes the file."""

    def __init__(self, path: Path, owner: tuple[int, int]) -> None:
        self._path = path
        self._owner = owner

    def add(self, network: Network, seconds: float, by: str) -> Ban:
        """Ban a network; one that is banned already has this time from now on.

        Raises ValueError when there are too many, OSError when it cannot be written.
        """
        name = str(network)
        bans = [ban for ban in read_bans(self._path) if ban.network != name]
        if len(bans) >= MOST:
            raise ValueError(f"there are {len(bans)} bans; expected fewer than {MOST}, for more "
                             "there are firewalls, or ban their network")
        made = Ban(name, time.monotonic() + seconds, time.time(), by)
        self._write([*bans, made])
        return made

    def remove(self, network: Network | None) -> list[Ban]:
        """End the ban of exactly that network, or all. Raises ValueError when there is none."""
        bans = read_bans(self._path)
        gone = [ban for ban in bans if network is None or ban.network == str(network)]
        if network is not None and not gone:
            raise ValueError(f"{network}: it is not banned{_those(bans, network)}")
        self._write([ban for ban in bans if ban not in gone])
        return gone

    def _write(self, bans: list[Ban]) -> None:
        replace_json(self._path, [asdict(ban) for ban in bans], self._owner)


def _those(bans: Iterable[Ban], network: Network) -> str:
    """What may have been meant: the bans that have to do with that network."""
    near = [ban.network for ban in bans if _overlap(ipaddress.ip_network(ban.network), network)]
    if not near:
        return "; expected a network that bans lists"
    return f", but {', '.join(near[:5])} is; expected that"


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


class BanTable:
    """The bans of that file, for looking up. Raises OSError, ValueError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        # By version and length of prefix: the networks' bits, their names and their ends.
        self._by_prefix: dict[tuple[int, int], dict[int, Ban]] = {}
        self._last = 0.0  # when the last of them is over
        for ban in read_bans(path):
            network = ipaddress.ip_network(ban.network)
            shift = network.max_prefixlen - network.prefixlen
            table = self._by_prefix.setdefault((network.version, shift), {})
            table[int(network.network_address) >> shift] = ban
            self._last = max(self._last, ban.until)

    def __len__(self) -> int:
        return len(self._by_prefix) if self._last > time.monotonic() else 0

    def find(self, peer: Any) -> Ban | None:
        """The ban that a peer's socket address falls under now, or None."""
        if not isinstance(peer, tuple):
            return None
        try:
            address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
        except ValueError:
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        bits = int(address)
        for (version, shift), table in self._by_prefix.items():
            ban = table.get(bits >> shift) if version == address.version else None
            if ban is not None and ban.left > 0:
                return ban
        return None
