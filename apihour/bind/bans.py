"""Bans: addresses and networks that are refused at the door, for a time.

Rules:

- The truth is one file of the runtime directory, so a ban holds for every worker, those that
  start later too, across reloads and upgrades, and ends with the daemon. Only the arbiter
  writes it, a whole file at a time; workers and console look whether it is another one.
- Times are CLOCK_MONOTONIC, which all processes of a machine share: setting the clock neither
  ends a ban nor prolongs it.
- Without a ban an accepted connection pays one look at an empty mapping; with bans, one look
  per length of prefix there is, however many there are of each.
- A peer of no IP address (a unix socket) is never banned.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apihour.bind.peers import host_of
from apihour.ipc.state_files import replace_json

__all__ = ["MOST", "Ban", "BanBook", "Bans", "Network", "parse_network", "read_bans"]

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


class Bans:
    """A reader's side: who is refused now, and how many were."""

    FRESH = 0.2  # seconds for which :meth:`refuses` trusts what was read, where it looks itself

    def __init__(self, path: Path, logger: logging.Logger) -> None:
        self._path = path
        self._logger = logger
        self._told = ""
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0
        # By version and length of prefix: the networks' bits, their names and their ends.
        self._by_prefix: dict[tuple[int, int], dict[int, Ban]] = {}
        self._last = 0.0  # when the last of them is over
        self.watchers: list[Callable[[], None]] = []
        """Called by :meth:`look` whenever somebody else is banned than before."""
        self.refused: Counter[str] = Counter()
        """Connections refused so far, by network."""

    def __len__(self) -> int:
        return len(self._by_prefix)

    def look(self) -> None:
        """Look whether the file is another one, and read it then; one stat(2) if not.

        When it cannot be read that is said once, and what was read before holds on.
        """
        self._looked = time.monotonic()
        told = ""
        try:
            self._refresh()
        except (OSError, ValueError) as error:
            told = f"bans cannot be read, those known hold on: {error}"
        if told and told != self._told:
            self._logger.error("%s", told)
        self._told = told

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            seen: tuple[int, int, int] | None = (
                found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            if self._by_prefix and self._last <= time.monotonic():
                self._hold({})
            return
        tables: dict[tuple[int, int], dict[int, Ban]] = {}
        for ban in read_bans(self._path) if seen is not None else ():
            network = ipaddress.ip_network(ban.network)
            shift = network.max_prefixlen - network.prefixlen
            table = tables.setdefault((network.version, shift), {})
            table[int(network.network_address) >> shift] = ban
        self._seen = seen
        self._hold(tables)

    def _hold(self, tables: dict[tuple[int, int], dict[int, Ban]]) -> None:
        """From now on these hold."""
        self._by_prefix = tables
        self._last = max((ban.until for table in tables.values() for ban in table.values()),
                         default=0.0)
        for watcher in self.watchers:
            watcher()

    def find(self, peer: Any) -> Ban | None:
        """The ban that a peer's socket address falls under now, or None."""
        if not self._by_prefix or not isinstance(peer, tuple):
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

    def refuses(self, peer: Any) -> bool:
        """Whether a new connection of that peer is to be refused; counts it."""
        ban = self.find(peer)
        if ban is None:
            return False
        self.refused[ban.network] += 1
        return True

    def refuses_now(self, peer: Any) -> bool:
        """The same, for those that have no heartbeat to look again by."""
        is_stale = time.monotonic() - self._looked > self.FRESH
        if is_stale or self.find(peer) is not None:  # a ban that was ended holds no longer
            self.look()
        return self.refuses(peer)
