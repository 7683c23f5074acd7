"""Which hosts there are: those that were heard of, until they say goodbye or are forgotten.

A host that dies says no goodbye: it stays, so that whoever asks all hears that it is missing.
"""

from __future__ import annotations

import fnmatch
import re
import time
from dataclasses import dataclass, field

from apihour.ops.model import CommandFailed

__all__ = ["Membership", "is_host_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MOST = 10_000  # hosts that are kept: a stranger with the key could fill the memory


def is_host_name(text: str) -> bool:
    """Whether it may name a host: one token of a subject."""
    return _NAME.fullmatch(text) is not None


@dataclass
class Membership:
    """The other hosts, by name, and when each was last heard of (``time.monotonic()``)."""

    own: str
    heard: dict[str, float] = field(default_factory=dict)

    def hear(self, name: str) -> None:
        """That host is there."""
        if is_host_name(name) and (name in self.heard or len(self.heard) < _MOST):
            self.heard[name] = time.monotonic()

    def forget(self, name: str) -> bool:
        """It has left; whether it was known."""
        return self.heard.pop(name, None) is not None

    def names(self) -> list[str]:
        """All hosts, this one too, by name."""
        return sorted({self.own, *self.heard})

    def choose(self, patterns: str) -> list[str]:
        """Those of ``all``, or of names and patterns (``*``, ``?``) parted by commas.

        Raises CommandFailed naming those there are when one fits none.
        """
        there = self.names()
        found: set[str] = set()
        for pattern in patterns.split(","):
            fitting = there if pattern == "all" else [
                name for name in there if fnmatch.fnmatchcase(name, pattern)]
            if not fitting:
                shown = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
                raise CommandFailed(f"host {pattern!r:.80}: there is none; there is {shown}",
                                    "usage")
            found.update(fitting)
        return sorted(found)
