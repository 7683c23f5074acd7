"""What ``--filter`` means: one condition on a row, exact, the same for every list.

Rules:

- ``COLUMN=VALUE`` is the whole value, whatever its case; ``*`` and ``?`` in it stand for any
  text and any character. ``!=`` is its opposite.
- A column of addresses fits without its port, and may be asked for a network:
  ``peer=127.0.0.77``, ``peer=10.0.0.0/8``, ``peer=2001:db8::/64``.
- Numbers are compared as such, in their unit: ``age>1m``, ``bytes_in>=2M``, ``cpu<50%``.
- ``COLUMN~TEXT`` is part of the value, ``~TEXT`` part of any value of the row.
- ``COLUMN=`` is a row without a value there, which tables show as ``-``, or with an empty one.
- A column there is not is refused with those there are; so is a word that is no condition.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apihour.bind.peers import host_of
from apihour.errors import UsageError
from apihour.ops.model import Column
from apihour_console.calls.networks import why_unclear

__all__ = ["TRUTH", "UNITS", "Filter", "natural", "parse_filter", "quantity"]

_FORM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?\s*(!=|>=|<=|=|>|<|~)\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_LONGEST = 1000  # characters of a condition
_NUMBERS = ("int", "float", "percent", "seconds", "bytes")
UNITS: Mapping[str, Mapping[str, float]] = {
    "seconds": {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0},
    "bytes": {"": 1.0, "b": 1.0, "k": 2.0**10, "m": 2.0**20, "g": 2.0**30},
    "": {"": 1.0},
}
TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_EXPECTED = "expected COLUMN=VALUE (or !=, <, <=, >, >=, ~), or ~TEXT for any column"


@dataclass(frozen=True)
class Filter:
    """One condition on rows; no `column`: any of them may fulfil it."""

    column: str
    operator: str
    value: str | float | bool
    kind: str = "any"

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether the row fulfils it."""
        if self.operator == "~":
            looked = row.values() if not self.column else (row.get(self.column, ""),)
            return any(str(self.value).casefold() in str(one).casefold() for one in looked)
        if self.operator in ("=", "!="):
            return self._equals(row.get(self.column)) == (self.operator == "=")
        return _compare(row.get(self.column), self.operator, self.value)

    def _equals(self, found: Any) -> bool:
        if isinstance(self.value, bool) or isinstance(found, bool):
            return found is _truth(self.value)
        if isinstance(found, int | float) or isinstance(self.value, float):
            return isinstance(found, int | float) and float(found) == _number(self.value)
        text = "" if found is None else str(found)
        if self.kind == "address" and _is_at(text, self.value):
            return True
        return _pattern(self.value).fullmatch(text) is not None


def parse_filter(text: str, columns: Sequence[Column]) -> Filter:
    """Read one condition; no `columns`: whatever the rows turn out to have.

    Raises UsageError, one line that says what was expected and which columns there are.
    """
    known = {column.name: column.type for column in columns}
    match = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match[1] or match[2] == "~") or not (match[3] or match[2] != "~"):
        raise UsageError(f"option --filter: {text!r:.80}; {_EXPECTED}{_listed(known)}")
    name, operator, value = match[1] or "", match[2], match[3]
    if name and known and name not in known:
        raise UsageError(f"option --filter: no column {name!r:.80}; expected one of "
                         f"{', '.join(known)}")
    kind = known.get(name, "any")
    if kind == "address" and operator != "~" and (unclear := why_unclear(value)):
        raise UsageError(f"option --filter: {unclear}")
    taken = operator == "~" or (operator in ("=", "!=") and not value)
    return Filter(name, operator, value if taken else _value(name, kind, value), kind)


def _listed(known: Mapping[str, str]) -> str:
    return f"; columns: {', '.join(known)}" if known else ""


def _value(name: str, kind: str, text: str) -> str | float | bool:
    if kind == "bool":
        if text.lower() not in TRUTH:
            raise UsageError(f"option --filter: {text!r:.80}; expected yes or no for {name}")
        return TRUTH[text.lower()]
    if kind in _NUMBERS:
        number = quantity(text.rstrip("%"), UNITS.get(kind, UNITS[""]))
        if number is None:
            raise UsageError(f"option --filter: {text!r:.80}; expected a number for {name}")
        return number
    return text


def _number(value: Any) -> float | None:
    """A value typed for a column of no known type, as a number if it is one."""
    return value if isinstance(value, float) else quantity(str(value), UNITS[""])


def _truth(value: Any) -> Any:
    return TRUTH.get(value.lower(), value) if isinstance(value, str) else value


def _pattern(text: str | float | bool) -> re.Pattern[str]:
    """`text` with its wildcards; brackets are none of them, they belong to IPv6 addresses."""
    words = {"*": ".*", "?": "."}
    return re.compile("".join(words.get(one) or re.escape(one) for one in str(text)),
                      re.IGNORECASE | re.DOTALL)


def _is_at(peer: str, wanted: Any) -> bool:
    """Whether a peer is of that address or network; text that is neither is nowhere."""
    try:
        address = ipaddress.ip_address(host_of(peer).partition("%")[0])
        network = ipaddress.ip_network(str(wanted).strip("[]"), strict=False)
    except ValueError:
        return _pattern(wanted).fullmatch(host_of(peer)) is not None
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in network


def natural(value: Any) -> tuple[Any, ...]:
    """A key that orders anything: absent, then numbers, then text with numbers in it."""
    if value is None:
        return (0,)
    if isinstance(value, int | float):
        return (1, float(value))
    parts = re.split(r"(\d+)", str(value).lower())
    return (2, *((int(part), "") if part.isdecimal() else (-1, part) for part in parts))


def _compare(found: Any, operator: str, value: Any) -> bool:
    if isinstance(found, int | float):
        value = _number(value)
    if found is None or value is None:
        return False
    if isinstance(value, float) and not isinstance(found, int | float):
        return False
    left, right = natural(found), natural(value)
    orders: Mapping[str, Callable[[], bool]] = {
        ">": lambda: left > right, ">=": lambda: left >= right,
        "<": lambda: left < right, "<=": lambda: left <= right,
    }
    return orders[operator]()


def quantity(text: str, units: Mapping[str, float]) -> float | None:
    """The number in `text` with one of those units, None when it is none."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(text) > 40 or match[2].lower() not in units:
        return None
    return float(match[1]) * units[match[2].lower()]
