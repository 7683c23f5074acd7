"""How a call ends: the codes of gRPC, and what says one of them.

Rule: the codes of the libraries are known by their shape (grpcio's enumeration has pairs, grpclib's
numbers), so that neither need be installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "INVALID_ARGUMENT", "OK", "RESOURCE_EXHAUSTED",
    "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN", "CallEnded", "Pairs", "number_of",
]

(OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED) = range(5)
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14

Pairs = Iterable[tuple[str, Any]]
"""Metadata: names in lower case, and texts; bytes where the name ends with ``-bin``."""


class CallEnded(Exception):
    """The call ends with a code, a text for people, and metadata."""

    def __init__(self, code: int, message: str = "", metadata: Pairs = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = metadata


def number_of(code: Any) -> int:
    """The number of a code, whatever says it. Raises TypeError for what is none."""
    value = getattr(code, "value", code)
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 16:
        return value
    raise TypeError(f"status {code!r}: expected a grpc.StatusCode, a grpclib.const.Status or "
                    "a number from 0 to 16")
