"""What the value of an option may be: from a text or an object to what is meant, or an error.

Those of options that fewer daemons are given: apihour.config.rare_values.

Rules: pure functions; each raises ValueError with ``VALUE; expected WHAT``, and whoever calls
adds the name of the option, variable or file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from apihour.bind.addresses import parse_bind
from apihour.errors import AddressError

__all__ = [
    "WorkerCount",
    "fail",
    "validate_binds",
    "validate_switch",
    "validate_text",
    "validate_workers",
]


@dataclass(frozen=True)
class WorkerCount:
    """How many workers: a fixed number, or a range that follows the load."""

    minimum: int
    maximum: int

    def __str__(self) -> str:
        low, high = self.minimum, self.maximum
        return str(low) if low == high else f"{low}..{high}"


def fail(value: object, expected: str) -> ValueError:
    """The error of a value that is not as `expected`."""
    return ValueError(f"{value!r}; expected {expected}")


def validate_workers(value: Any) -> WorkerCount:
    """``4``, ``2..8`` or a WorkerCount."""
    if isinstance(value, WorkerCount):
        return value
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", str(value).strip())
    if match and 1 <= int(match[1]) <= int(match[2] or match[1]) <= 128:
        return WorkerCount(int(match[1]), int(match[2] or match[1]))
    raise fail(value, "a number from 1 to 128, or a range like 2..8")


def validate_binds(value: Any) -> list[str]:
    """A list of ``address`` or ``name=address``; a text holds several apart by commas."""
    items = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise fail(value, "a text like 'http=127.0.0.1:8000', or a list of such")
    for item in items:
        try:
            parse_bind(item)
        except AddressError as error:
            raise fail(item, error.expected) from error
    return [item.strip() for item in items]


def validate_switch(value: Any) -> bool:
    """A boolean, or its usual words."""
    words = {"1": True, "true": True, "yes": True, "on": True,
             "0": False, "false": False, "no": False, "off": False}
    if str(value).strip().lower() not in words:
        raise fail(value, "true or false")
    return words[str(value).strip().lower()]


def validate_text(value: Any) -> str | None:
    """A text, or nothing."""
    if value is None or isinstance(value, str):
        return value or None
    raise fail(value, "a text")
