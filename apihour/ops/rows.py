"""Rows from what a command returned, and times of day in them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

__all__ = [
    "stamp",
    "to_rows",
]


def stamp(seconds: float) -> str:
    """A time of day in a row: UTC, RFC 3339, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"


def to_rows(value: Any) -> list[dict[str, Any]]:
    """Rows from what a command function returned: dataclasses, mappings or plain values.

    Dataclasses are taken as they are, not copied to their depths: rows are flat, and many.
    """
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [row for one in value for row in to_rows(one)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [{name: getattr(value, name) for name in value.__dataclass_fields__}]
    return [dict(value) if isinstance(value, Mapping) else {"value": value}]
