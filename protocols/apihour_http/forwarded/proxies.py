"""The proxies that are believed: addresses, networks, ``unix`` for unix sockets, ``*`` for all.

Rule: an address is what it is in whatever form: ``::ffff:10.0.0.7`` is ``10.0.0.7``.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["DEFAULT", "Node", "Proxies", "node"]

DEFAULT = "127.0.0.1,::1,unix"
"""Those on this machine, as gunicorn and uvicorn have it."""

# RFC 7239 6: IPv4, or IPv6 in brackets, then a port or its alias. X-Forwarded-For has IPv6
# without brackets, too.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]+))?")
_BARE = re.compile(r"[0-9A-Fa-f:.]+")
_LONGEST = 64  # characters of a node; the longest IPv6 address with brackets and port has 53

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Node(NamedTuple):
    """One end of a hop; `port` is 0 where it is not told."""

    address: IPAddress
    port: int


def _plain(address: IPAddress) -> IPAddress:
    return getattr(address, "ipv4_mapped", None) or address


@functools.lru_cache(512)
def _read(text: str) -> Node | None:
    found = _NODE.fullmatch(text)
    if found is not None:
        host, port = found[1] or found[2], int(found[3] or 0)
    elif _BARE.fullmatch(text):
        host, port = text, 0
    else:
        return None
    try:
        return Node(_plain(ipaddress.ip_address(host)), port if port < 65536 else 0)
    except ValueError:
        return None


def node(text: str) -> Node | None:
    """The address in `text`, with or without a port; None for what is none.

    ``unknown`` and identifiers like ``_hidden`` (RFC 7239 6.2, 6.3) are none.
    """
    return _read(text) if len(text) <= _LONGEST else None


class Proxies:
    """Which peers are proxies that are believed."""

    def __init__(self, listed: str | Iterable[str]) -> None:
        """`listed` are addresses and networks, ``unix``, ``*``; a text has them by commas.

        Raises ValueError naming one that is none of these.
        """
        parts = listed.split(",") if isinstance(listed, str) else listed
        names = [name for part in parts if (name := part.strip())]
        self._all = "*" in names
        self._unix = self._all or "unix" in names
        # (version, bits of the network, how many bits of an address are the host's)
        self._networks = [_network(name) for name in names if name not in ("*", "unix")]

    def __bool__(self) -> bool:
        return self._all or self._unix or bool(self._networks)

    def believe(self, address: IPAddress) -> bool:
        """Whether who has that address is believed."""
        if self._all:
            return True
        version, bits = address.version, int(address)
        for wanted, network, shift in self._networks:
            if wanted == version and bits >> shift == network:
                return True
        return False

    def believe_peer(self, host: str | None) -> bool:
        """Whether the peer of a connection is believed; `host` is None for a unix socket."""
        if host is None:
            return self._unix
        try:
            return self.believe(_plain(ipaddress.ip_address(host.partition("%")[0])))
        except ValueError:
            return False


def _network(name: str) -> tuple[int, int, int]:
    try:
        found = ipaddress.ip_network(name)
    except ValueError as error:
        raise ValueError(f"{name!r}: expected an address, a network such as 10.0.0.0/8, "
                         f"unix or * ({error})") from None
    start, length = found.network_address, found.prefixlen
    mapped = getattr(start, "ipv4_mapped", None)
    if mapped is not None and length >= 96:
        start, length = mapped, length - 96
    shift = start.max_prefixlen - length
    return start.version, int(start) >> shift, shift
