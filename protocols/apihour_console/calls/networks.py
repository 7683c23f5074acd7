"""Networks as operators type them."""

from __future__ import annotations

import ipaddress

from apihour.bind.ban_book import parse_network

__all__ = ["why_unclear"]


def why_unclear(text: str) -> str:
    """One line on a network that may be meant to be less than it is; empty: it is clear, or none.

    Bits of a host are set in ``10.1.2.3/8``: its sixteen million neighbours may not be meant.
    """
    try:
        given = ipaddress.ip_interface(text)
        network = parse_network(text)
    except ValueError:
        return ""
    if given.ip == given.network.network_address:
        return ""
    ip = getattr(given.ip, "ipv4_mapped", None) or given.ip
    return (f"{text!r:.80}: bits of a host are set in it; expected {network} for all of that "
            f"network, or {ip}")
