"""What JSON has no form for, put into one: dates, UUIDs, sets, enums, dataclasses and their like.

Rules:

- As FastAPI's ``jsonable_encoder`` does it, so that an endpoint which moves here answers the
  same.
- Only asked when an encoder has met such a value: plain data never comes here.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import pathlib
import re
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["to_plain", "with_fallback"]

Encoder = Callable[[Any], str | bytes]

_FORMS: dict[type, Callable[[Any], Any]] = {
    datetime.datetime: datetime.datetime.isoformat,  # which is a date too: it comes first
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    decimal.Decimal: lambda number: float(number) if number.as_tuple().exponent else int(number),
    uuid.UUID: str, pathlib.PurePath: str,
    ipaddress.IPv4Address: str, ipaddress.IPv6Address: str,
    ipaddress.IPv4Network: str, ipaddress.IPv6Network: str,
    ipaddress.IPv4Interface: str, ipaddress.IPv6Interface: str,
    bytes: bytes.decode, re.Pattern: lambda pattern: pattern.pattern,
    set: list, frozenset: list, deque: list, range: list, Iterator: list,
}


def to_plain(value: Any) -> Any:
    """Return `value` as what JSON has a form for; its parts may need another call.

    Raises TypeError naming what has none.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        import msgspec

        return msgspec.to_builtins(value, enc_hook=to_plain)
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump(mode="json")  # of pydantic
    for kind, form in _FORMS.items():
        if isinstance(value, kind):
            return form(value)
    raise TypeError(
        f"{type(value).__name__} {ascii(value)[:100]}: has no form in JSON, expected a dict, list, "
        "text, number, date, UUID, enum, set or dataclass")


def with_fallback(dumps: Encoder) -> Encoder:
    """`dumps` with :func:`to_plain` for what it has no form for, where it takes one.

    That is ujson's; another encoder is its owner's choice, and stays as it is.
    """
    ujson = sys.modules.get("ujson")
    if ujson is not None and dumps is ujson.dumps:
        return functools.partial(dumps, default=to_plain)
    return dumps
