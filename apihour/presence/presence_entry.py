"""One connection of somebody, as the application sees it, and as a line in the store."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apihour.bus.subjects import check_pattern, check_subject
from apihour.errors import ApihourError, BusError

__all__ = [
    "PresenceChange",
    "PresenceEntry",
    "PresenceError",
    "PresenceLine",
    "pattern_of",
    "read_lines",
    "subject_of",
    "write_line",
]

_WHO = 200  # bytes in UTF-8
_ABOUT = 1000  # bytes as JSON


class PresenceError(ApihourError):
    """An entry of ``container.presence`` cannot be made, or looked for, as it is."""


PresenceLine = tuple[str, float, dict[str, Any]]
"""Who, since when, and what more there is to say."""


@dataclass(frozen=True, slots=True)
class PresenceEntry:
    """Somebody's connection: `who` is at `subject` by way of `worker` on `host`.

    `since` is in seconds since the epoch, `about` what the application said, `id` like no other.
    """

    subject: str
    who: str
    host: str
    worker: str
    since: float
    about: Mapping[str, Any] = field(hash=False)
    id: str


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """An entry that a watch sees come (`joined`), or go."""

    joined: bool
    entry: PresenceEntry


def subject_of(subject: str) -> str:
    """`subject` itself. Raises PresenceError when nobody can be there."""
    return _checked(check_subject, subject)


def pattern_of(pattern: str) -> str:
    """`pattern` itself. Raises PresenceError when it is none."""
    return _checked(check_pattern, pattern)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except BusError as error:
        raise PresenceError(f"presence: {error}") from None


def write_line(number: int, who: str, since: float, about: dict[str, Any]) -> bytes:
    """The line of an entry. Raises PresenceError for what cannot be in one."""
    if not isinstance(who, str) or not who or not who.isprintable():
        raise PresenceError(f"presence: who: {who!r:.80}; expected printable text")
    if len(who.encode()) > _WHO:
        raise PresenceError(f"presence: who: {who[:40]!r}…: {len(who.encode())} bytes; expected "
                            f"at most {_WHO}")
    try:
        told = _json(about)
    except (TypeError, ValueError, RecursionError) as error:
        raise PresenceError(f"presence: who {who!r}: about {reprlib.repr(about):.80}: "
                            f"{error}; expected what JSON can say") from error
    if len(told) > _ABOUT:
        raise PresenceError(f"presence: who {who!r}: about: {len(told)} bytes as JSON; expected at "
                            f"most {_ABOUT}")
    return b"[%d,%b,%.3f,%b]" % (number, _json(who), since, told)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read_lines(value: bytes) -> dict[int, PresenceLine]:
    """The lines of a page, by number; what is none, of another program or version, is left out."""
    found: dict[int, PresenceLine] = {}
    for text in value.split(b"\n"):
        try:
            number, who, since, about = json.loads(text)
            if (isinstance(number, int) and isinstance(who, str) and who.isprintable()
                    and isinstance(about, dict) and math.isfinite(since)):
                found[number] = (who, float(since), about)
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
    return found
