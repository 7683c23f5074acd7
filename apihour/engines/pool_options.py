"""The options that engines have in common, read from code or from the configuration file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from apihour.shared.leases import MOST

__all__ = ["SECONDS", "Check", "PoolOptions", "check_options", "is_text", "is_truth"]

Check = tuple[Callable[[Any], bool], str]


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 86400


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


def is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


SECONDS: Check = (_is_seconds, "seconds above 0")
_EXPECTED: dict[str, Check] = {
    "max": (_is_count, f"a whole number from 1 to {MOST}"),
    "wait": SECONDS,
    "connect_timeout": SECONDS,
    "start_timeout": SECONDS,
    "idle": SECONDS,
    "health": (is_truth, "true or false"),
    "at_start": (lambda value: value in ("fail", "retry"), "fail or retry"),
}


@dataclass(frozen=True)
class PoolOptions:
    """How many connections there are, and how long what may take; times in seconds.

    ``max`` is what the server sees of all workers of the daemon, and of both generations of a
    reload. ``wait`` is how long a request waits for a connection, ``connect_timeout`` what
    making one may take, ``idle`` how long an unused one is kept. With ``health``, ``/readyz``
    says no while the engine is down. ``at_start`` says what becomes of a worker that does not
    reach it within ``start_timeout``: it fails, or serves and tries again.
    """

    max: int = 10
    wait: float = 5.0
    connect_timeout: float = 5.0
    start_timeout: float = 10.0
    idle: float = 300.0
    health: bool = False
    at_start: str = "fail"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Those of these options that are given. Raises ValueError naming one out of range."""
        known = {field.name for field in dataclasses.fields(cls)}
        found = {name: value for name, value in given.items() if name in known}
        check_options(found, _EXPECTED)
        return cls(**found)

    @staticmethod
    def names() -> list[str]:
        """What they are called."""
        return list(_EXPECTED)


def check_options(given: Mapping[str, Any], expected: Mapping[str, Check]) -> None:
    """Raise ValueError naming an option that is unknown or out of range, never its value."""
    for name, value in given.items():
        if name not in expected:
            raise ValueError(f"option {name!r}: expected one of {', '.join(sorted(expected))}")
        is_good, text = expected[name]
        if not is_good(value):
            # Not the value of one that may be a secret.
            shown = f"a {type(value).__name__}" if isinstance(value, str) else ascii(value)[:100]
            raise ValueError(f"{name}: {shown}; expected {text}")
