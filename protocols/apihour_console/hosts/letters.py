"""What the consoles of a fleet write to one another: sealed JSON, one object a message.

Rules:

- Every letter is sealed with the key that all hosts of the fleet have (HMAC-SHA256, RFC 2104) over
  its time, a number that is never used twice, and the subject it is for: who has no key is not
  read, and nothing that was overheard is obeyed again, or elsewhere.
- A letter that is refused is answered by nothing, and said in the log at most every ten seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError
from apihour_ssh.private_files import PrivateFileError, open_private

__all__ = ["MOST", "LetterError", "Seal", "read_fleet_key"]

MOST = 900_000  # bytes of a letter; NATS takes 1 MB by default
_AGE = 30.0  # seconds that clocks may differ and letters may be on their way
_REMEMBERED = 100_000  # letters of that time that are known to have come
_DIGEST = 64  # hexadecimal digits of SHA-256
_LEAST_KEY = 32  # characters


class LetterError(Exception):
    """A letter that cannot be believed; ``str()`` says why."""


def read_fleet_key(path: Path) -> bytes | None:
    """The key in that file; None where there is none.

    Raises ConfigurationError when others may read it, or when it is too short to be one.
    """
    try:
        with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
            key = file.read(4096).strip()
    except FileNotFoundError:
        return None
    except (OSError, PrivateFileError) as error:
        raise ConfigurationError(f"fleet: {error}") from error
    if len(key) < _LEAST_KEY:
        raise ConfigurationError(
            f"fleet: {path}: {len(key)} characters; expected {_LEAST_KEY} or more at random, the "
            "same on every host")
    return key


class Seal:
    """Seals letters, and opens those that were sealed with the same key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seen: OrderedDict[str, float] = OrderedDict()

    def close(self, subject: str, content: Mapping[str, Any]) -> bytes:
        """The bytes of a letter for `subject`."""
        letter = {**content, "time": time.time(), "number": os.urandom(12).hex()}
        text = json.dumps(letter, separators=(",", ":")).encode()
        return self._digest(subject, text) + text

    def open(self, subject: str, data: bytes) -> dict[str, Any]:
        """What a letter says, and its ``time``, by the sender's clock. Raises LetterError."""
        digest, text = data[:_DIGEST], data[_DIGEST:]
        if len(data) > MOST + _DIGEST or not hmac.compare_digest(
                digest, self._digest(subject, text)):
            raise LetterError("not sealed with this fleet's key")
        letter, sent, number = _read(text)
        now = time.time()
        if not abs(now - sent) <= _AGE:
            raise LetterError(f"sent {now - sent:+.0f} s ago by its clock; expected at most "
                              f"{_AGE:g}: set the clocks")
        self._remember(number, now)
        return letter

    def _digest(self, subject: str, text: bytes) -> bytes:
        return hmac.new(self._key, subject.encode() + b"\n" + text, hashlib.sha256).hexdigest(
            ).encode()

    def _remember(self, number: str, now: float) -> None:
        seen = self._seen
        while seen and next(iter(seen.values())) < now - 2 * _AGE:
            seen.popitem(last=False)
        if number in seen:
            raise LetterError("came a second time")
        if len(seen) >= _REMEMBERED:
            raise LetterError(f"more than {_REMEMBERED} in {2 * _AGE:g} s")
        seen[number] = now


def _read(text: bytes) -> tuple[dict[str, Any], float, str]:
    """A letter, its time and its number. Raises LetterError."""
    try:
        letter = dict(json.loads(text))
        return letter, float(letter["time"]), str(letter.pop("number"))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LetterError(f"no letter: {error!r:.80}") from error
