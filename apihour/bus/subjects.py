"""Subjects and patterns in NATS's terms: tokens divided by dots, ``*`` for one, ``>`` for the rest.

Source: https://docs.nats.io/nats-concepts/subjects.
"""

from __future__ import annotations

import math

from apihour.errors import BusError

__all__ = [
    "DATA_LIMIT", "check_data", "check_pattern", "check_queue", "check_seconds", "check_subject",
    "matches",
]

SUBJECT_LIMIT = 200  # bytes; its length is one byte on the wire, and a reply adds to it
QUEUE_LIMIT = 60  # bytes
DATA_LIMIT = 1_000_000  # bytes; a NATS server takes 1 MiB unless told otherwise
_WILD = ("*", ">")


def check_subject(subject: str) -> str:
    """`subject` itself. Raises BusError when nothing can be sent to it."""
    tokens = _tokens(subject, "subject")
    if any(token in _WILD for token in tokens):
        raise BusError(f"subject {subject!r}: a pattern; expected a subject without wildcards")
    return subject


def check_pattern(pattern: str) -> str:
    """`pattern` itself. Raises BusError when it is none."""
    if ">" in _tokens(pattern, "pattern")[:-1]:
        raise BusError(f"pattern {pattern!r}: expected '>' as the last token only")
    return pattern


def check_queue(queue: str) -> str:
    """`queue` itself, a queue group's name or nothing. Raises BusError."""
    if queue:
        _readable(queue, "queue", QUEUE_LIMIT)
        if any(letter in queue for letter in ".*>/\\"):
            raise BusError(f"queue {queue!r}: expected a name without . * > / or \\")
    return queue


def check_data(subject: str, data: bytes) -> None:
    """Raises BusError when `data` cannot be sent."""
    if type(data) is not bytes:
        raise BusError(f"subject {subject!r}: data {data!r:.40}, expected bytes")
    if len(data) > DATA_LIMIT:
        raise BusError(
            f"subject {subject!r}: {len(data)} bytes of data, expected at most {DATA_LIMIT}")


def check_seconds(subject: str, what: str, seconds: float) -> None:
    """Raises BusError when nobody can wait for an answer that long."""
    if (not isinstance(seconds, int | float) or isinstance(seconds, bool)
            or not 0 < seconds < math.inf):
        raise BusError(f"subject {subject!r}: {what} {seconds!r:.40}, expected seconds above 0")


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to `pattern` gets what is sent to `subject`."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        if len(tokens) < len(wanted):
            return False
        wanted.pop()
        tokens = tokens[:len(wanted)]
    return len(wanted) == len(tokens) and all(
        want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


def _tokens(text: str, what: str) -> list[str]:
    _readable(text, what, SUBJECT_LIMIT)
    tokens = text.split(".")
    if not all(tokens):
        raise BusError(f"{what} {text!r}: an empty token; expected tokens divided by single dots")
    return tokens


def _readable(text: str, what: str, limit: int) -> None:
    if not isinstance(text, str) or not text or " " in text or not text.isprintable():
        raise BusError(f"{what} {text!r:.80}: expected printable text without spaces")
    if len(text.encode()) > limit:
        raise BusError(f"{what} {text[:40]!r}…: {len(text.encode())} bytes, expected at most "
                       f"{limit}")
