"""What the consoles of a fleet write to one another: sealed JSON, one object a message.

Rules:

- Every letter is sealed with a key that all hosts of the fleet have (HMAC-SHA256, RFC 2104) over
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["MOST", "LetterError", "Seal", "StrangerError"]

MOST = 900_000  # bytes of a letter; NATS takes 1 MB by default
_AGE = 30.0  # seconds that clocks may differ and letters may be on their way
_REMEMBERED = 100_000  # letters of that time that are known to have come
_DIGEST = 64  # hexadecimal digits of SHA-256


class LetterError(Exception):
    """A letter that cannot be believed; ``str()`` says why."""


class StrangerError(LetterError):
    """A letter of somebody who has another key, or none."""


class Seal:
    """Seals letters, and opens those that were sealed with a key that is known here, too."""

    def __init__(self, keys: Callable[[], Sequence[bytes]]) -> None:
        """`keys` are those of this moment: the first one seals, all of them open."""
        self._keys = keys
        self._seen: OrderedDict[str, float] = OrderedDict()

    def close(self, subject: str, content: Mapping[str, Any]) -> bytes:
        """The bytes of a letter for `subject`."""
        letter = {**content, "time": time.time(), "number": os.urandom(12).hex()}
        text = json.dumps(letter, separators=(",", ":")).encode()
        return _digest(self._keys()[0], subject, text) + text

    def open(self, subject: str, data: bytes) -> dict[str, Any]:
        """What a letter says, and its ``time``, by the sender's clock. Raises LetterError."""
        digest, text = data[:_DIGEST], data[_DIGEST:]
        if len(data) > MOST + _DIGEST or not any(hmac.compare_digest(
                digest, _digest(key, subject, text)) for key in self._keys()):
            raise StrangerError("not sealed with this fleet's key")
        letter, sent, number = _read(text)
        now = time.time()
        if not abs(now - sent) <= _AGE:
            raise LetterError(f"sent {now - sent:+.0f} s ago by its clock; expected at most "
                              f"{_AGE:g}: set the clocks")
        self._remember(number, now)
        return letter

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


def _digest(key: bytes, subject: str, text: bytes) -> bytes:
    return hmac.new(key, subject.encode() + b"\n" + text, hashlib.sha256).hexdigest().encode()
