"""What aiodns keeps private: the channel of c-ares, which can be told to forget its answers."""

from __future__ import annotations

from typing import Any

__all__ = ["NO_DATA", "forget_answers"]

# ARES_ENODATA: the name is there, and has no record of the kind (args[0] of a DNSError).
NO_DATA = 1


def forget_answers(resolver: Any) -> None:
    """Have the next question go to the servers; those that were set stay.

    c-ares keeps an answer without records for an hour when no SOA record limits it (RFC 2308 5
    says not to keep it at all), as dnsmasq and others answer. A resolver of another make is left.
    """
    reinit = getattr(getattr(resolver, "_channel", None), "reinit", None)
    if reinit is not None:
        reinit()
