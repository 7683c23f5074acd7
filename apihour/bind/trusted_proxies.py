"""Which peers of a bind may speak for others: ``?proxy=NETWORKS``."""

from __future__ import annotations

import ipaddress
from typing import Any

from apihour.bind.ban_book import parse_network

__all__ = ["TrustedProxies"]


class TrustedProxies:
    """Who may send the header: networks, ``unix`` for peers without an address, ``*`` for all."""

    def __init__(self, text: str) -> None:
        """Networks apart by commas. Raises ValueError, one line."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise ValueError("expected networks such as 10.0.0.0/8, unix, or *")
        self._all = "*" in parts
        self._unix = "unix" in parts
        self._networks = [parse_network(part) for part in parts if part not in ("*", "unix")]

    def trusts(self, peer: Any) -> bool:
        """Whether a peer, as ``accept()`` names it, is one of them."""
        if self._all:
            return True
        if not isinstance(peer, tuple):
            return self._unix
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
