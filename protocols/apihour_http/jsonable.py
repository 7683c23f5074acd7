"""What JSON has no form for, put into one: dates, UUIDs, sets, enums, dataclasses and their like.

Rules:

- As FastAPI's ``jsonable_encoder`` does it, so that an endpoint which moves here answers the
  same.
- Only asked when an encoder has met such a value: plain data never comes here.
- A float that is no number (NaN, an infinity) has no form in JSON (RFC 8259 6), and is refused:
  ujson would write a word that no browser reads.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import ipaddress
import json
import pathlib
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from apihour_http.row_set import RowSet

__all__ = ["encoder", "to_plain", "with_fallback"]

Encoder = Callable[[Any], str | bytes]


def _listed(values: Iterator[Any]) -> list[Any]:
    if inspect.isawaitable(values):  # what async generators give is both
        raise _formless(values)
    return list(values)


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
    RowSet: RowSet.plain, set: list, frozenset: list, deque: list, range: list, Iterator: _listed,
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
    raise _formless(value)


def _formless(value: Any) -> TypeError:
    expected = "a dict, list, text, number, date, UUID, enum, set or dataclass"
    if inspect.isawaitable(value):
        expected = "it awaited, in an async def"
    elif hasattr(value, "__aiter__"):
        expected = "Stream(…) or SSE(…) around it"
    return TypeError(f"{type(value).__name__} {ascii(value)[:100]}: has no form in JSON, expected "
                     f"{expected}")


@functools.cache
def _fast() -> tuple[Encoder, Encoder] | None:
    """ujson's encoder for plain data, and for any; both refuse a float that is no number."""
    try:
        from ujson import dumps
    except ImportError:
        return None

    def see_finite(data: Any) -> None:
        try:
            dumps(data, default=to_plain, allow_nan=False)
        except OverflowError as error:
            raise ValueError("NaN or an infinity: has no form in JSON, expected a finite number "
                             "or None") from error

    def plain(data: Any) -> str:
        text: str = dumps(data)
        # Letters are looked for in every text, the words in few; a text may well say them.
        if ("N" in text or "I" in text) and ("NaN" in text or "Infinity" in text):
            see_finite(data)
        return text

    def any_data(data: Any) -> str:
        text: str = dumps(data, default=to_plain)
        if "NaN" in text or "Infinity" in text:
            see_finite(data)
        return text

    return plain, any_data


def encoder() -> Encoder:
    """ujson's encoder where ujson is installed, else the standard library's."""
    fast = _fast()
    if fast is not None:
        return fast[0]
    return json.JSONEncoder(separators=(",", ":"), default=to_plain, allow_nan=False).encode


def with_fallback(dumps: Encoder) -> Encoder:
    """`dumps` with :func:`to_plain` for what it has no form for, where that is ours.

    Another encoder is its owner's choice, and stays as it is.
    """
    fast = _fast()
    return fast[1] if fast is not None and dumps is fast[0] else dumps
