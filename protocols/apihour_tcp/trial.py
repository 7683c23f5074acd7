"""What a factory makes, tried before a client meets it.

Rule: the protocol that was made for the trial is dropped; no transport ever drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_tcp.factories import describe, is_protocol, origin

__all__ = ["EXPECTED", "failure", "try_once"]

EXPECTED = {
    "stream": "a protocol with connection_made() and data_received(), like asyncio.Protocol",
    "datagram": "a protocol with connection_made() and datagram_received(), like "
                "asyncio.DatagramProtocol",
}


def try_once(factory: Callable[[], Any], kind: str) -> None:
    """Call `factory` and look at what it returns.

    Raises TypeError with one line when it fails, or makes no protocol of that kind.
    """
    try:
        made = factory()
    except Exception as error:
        raise TypeError(f"factory {describe(factory)} failed: {failure(error)}") from error
    if not is_protocol(made, kind):
        raise TypeError(
            f"factory {describe(factory)} returned {made!r}, expected {EXPECTED[kind]}")


def failure(error: BaseException) -> str:
    """One line: the error and where it was raised."""
    place = origin(error)
    return f"{type(error).__name__}: {error}{f' ({place})' if place else ''}"
