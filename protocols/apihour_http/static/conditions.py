"""What a request wants of a file: whether it has it already, and which part (RFC 9110 13, 14).

Rules:

- Preconditions are judged in the order of RFC 9110 13.2.2.
- One range is served; a list of them is answered with the whole, as 14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Validators", "accepted_ends", "accepts", "has_conditions", "judge", "part_of"]

# Coding and the end of the name of a file that has it, the better first.
_ENDS = (("br", ".br"), ("gzip", ".gz"))
_LONGEST = 1000  # characters of an Accept-Encoding that are looked at, and remembered
_CONDITIONS = frozenset({
    b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since",
    b"if-range"})
_TAG = re.compile(r'(?:W/)?("[^"]*")')
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
_QUALITY = re.compile(r";\s*q=([01](?:\.\d{0,3})?)", re.ASCII | re.IGNORECASE)


class Validators(NamedTuple):
    """What tells one state of a file from another."""

    etag: str
    modified: int
    """Seconds since the epoch."""


def judge(headers: Mapping[str, str], now: Validators) -> int:
    """200 when the file is wanted, 304 when the client has it, 412 when it wants another."""
    match = headers.get("If-Match")
    if match is not None:
        # A strong comparison: our tags are strong, a weak one of theirs matches nothing.
        if match.strip() != "*" and now.etag not in _tags(match, weak=False):
            return 412
    elif _is_older(headers.get("If-Unmodified-Since"), now.modified):
        return 412
    none_match = headers.get("If-None-Match")
    if none_match is not None:
        has_it = none_match.strip() == "*" or now.etag in _tags(none_match, weak=True)
        return 304 if has_it else 200
    since = headers.get("If-Modified-Since")
    when = _seconds(since)
    return 304 if when is not None and now.modified <= when else 200


def part_of(headers: Mapping[str, str], size: int, now: Validators) -> tuple[int, int] | None:
    """First byte and count of what is asked for; None for all of `size` bytes.

    Raises ValueError where nothing of the file is in the range (416).
    """
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None or found.group(0).endswith("=-"):
        return None
    if_range = headers.get("If-Range")
    if if_range is not None and if_range.strip() != now.etag and _seconds(if_range) != now.modified:
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
        is_empty = not int(last)
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
        if last and int(last) < start:
            return None  # 14.1.1: such a range is invalid, and ignored
        is_empty = False
    if start >= size or is_empty:
        raise ValueError(f"bytes */{size}")
    return start, end - start + 1


def accepts(header: str, coding: str) -> bool:
    """Whether an Accept-Encoding names `coding`, and not with a quality of 0 (12.5.3)."""
    for part in header.lower().split(","):
        name, _, rest = part.strip().partition(";")
        if name.strip() == coding:
            quality = _QUALITY.search(f";{rest}")
            return quality is None or float(quality.group(1)) > 0
    return False


def accepted_ends(header: str) -> tuple[tuple[str, str], ...]:
    """Codings that an Accept-Encoding names, the better first, and the ends of such files.

    None where it is longer than any client's: the plain file is always right, and costs nothing.
    """
    return _accepted_ends(header) if len(header) <= _LONGEST else ()


@lru_cache(256)
def _accepted_ends(header: str) -> tuple[tuple[str, str], ...]:
    return tuple(each for each in _ENDS if accepts(header, each[0]))


def has_conditions(fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request with those asks for a part, or for what it has not already."""
    return any(name.lower() in _CONDITIONS for name, _ in fields)


def _tags(header: str, weak: bool) -> list[str]:
    return [found.group(1) for found in _TAG.finditer(header)
            if weak or not found.group(0).startswith("W/")]


def _seconds(date: str | None) -> int | None:
    """A date of HTTP in seconds since the epoch; None for what is none."""
    if not date:
        return None
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _is_older(date: str | None, modified: int) -> bool:
    when = _seconds(date)
    return when is not None and when < modified
