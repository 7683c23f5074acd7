"""A key of the store as tokens of a subject of NATS, and back."""

from __future__ import annotations

import re

__all__ = ["decode", "encode"]

_TOKEN = re.compile(rb"[^A-Za-z0-9_-]")


def encode(key: str) -> str:
    """A key as tokens of a subject: divided at ``/``; what may not be there as ``=`` and hex."""
    return ".".join(
        _TOKEN.sub(lambda found: b"=%02X" % found[0][0], part).decode() or "="
        for part in key.encode().split(b"/"))


def decode(subject: str) -> str:
    """The key of those tokens. Raises ValueError when they are another program's."""
    return "/".join(
        re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]),
               b"" if part == "=" else part.encode()).decode()
        for part in subject.split("."))
