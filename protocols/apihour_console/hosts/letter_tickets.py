"""What is asked of a host in time, or not begun at all, and answers that can be asked for again.

Rules:

- Before a host is asked for what takes long or acts it gives a ticket, and takes it back with the
  letter for five seconds, by its own clock: a host that was stopped, or cut off, does not begin
  what whoever asked has given up.
- The latest answers are kept: one that was lost on its way is sent again. What is under way is
  never forgotten; what was only read may be, and is read again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from apihour.errors import ApihourError
from apihour.ops.model import CommandFailed

__all__ = ["ANOTHER", "FRESH", "Tickets"]

FRESH = 5.0  # seconds from a ticket to the letter with it
ANOTHER = "its console is another one by now; whether the one before has begun it is not known"
_KEPT = 64  # answers
_LARGEST = 100_000  # bytes of an answer that is kept
_WHOLE = 1_000_000  # bytes of all of them
_CUT = "its rows were lost on their way, {:,} bytes: too many to be kept"

_Told = Mapping[str, Any]


class _KeptAnswers:
    """Answers by the nonce of what they are to; None is what is under way."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, tuple[_Told, int]] = OrderedDict()
        self._begun: set[str] = set()
        self._size = 0

    def __contains__(self, nonce: str) -> bool:
        return nonce in self._begun or nonce in self._found

    def begin(self, nonce: str) -> None:
        """That is under way."""
        self._begun.add(nonce)

    def forget(self, nonce: str) -> None:
        """It may be carried out again."""
        self._begun.discard(nonce)

    def end(self, nonce: str, answer: _Told, size: int) -> None:
        """That is its answer; the oldest are let go for it."""
        if nonce not in self._begun:
            return
        self._begun.discard(nonce)
        self._found[nonce] = answer, size
        self._size += size
        while len(self._found) > _KEPT or self._size > _WHOLE:
            _, (_, old) = self._found.popitem(last=False)
            self._size -= old

    def answer(self, nonce: str) -> _Told | None:
        """Its answer; None while it is under way."""
        return self._found.get(nonce, (None,))[0]


class Tickets:
    """Those of one console."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._deeds = _KeptAnswers()
        self._reads = _KeptAnswers()

    def give(self) -> list[Any]:
        """A ticket of now."""
        return [self._instance, time.monotonic()]

    def knows(self, letter: Mapping[str, Any]) -> bool:
        """Whether one of its nonce has come before."""
        nonce = _nonce(letter)
        return nonce in self._deeds or nonce in self._reads

    def begin(self, letter: Mapping[str, Any]) -> None:
        """Begin what a letter asks, unless its ticket is over. Raises ApihourError."""
        ticket, nonce = letter.get("ticket"), _nonce(letter)
        if ticket is not None:
            instance, given = ticket
            late = time.monotonic() - float(given)
            if instance != self._instance:
                raise CommandFailed(ANOTHER, "lost")
            if not 0 <= late <= FRESH:
                raise ApihourError(f"it was read {late:.0f} s after it was written; nothing was "
                                   "begun, ask again")
        if nonce:
            (self._reads if ticket is None else self._deeds).begin(nonce)

    def end(self, letter: Mapping[str, Any], answer: _Told, size: int) -> None:
        """That is its answer, of so many bytes."""
        nonce = _nonce(letter)
        if size <= _LARGEST:
            (self._reads if letter.get("ticket") is None else self._deeds).end(nonce, answer, size)
        elif letter.get("ticket") is None:
            self._reads.forget(nonce)
        else:
            self._deeds.end(nonce, _without_rows(answer, size), 0)

    def answer(self, nonce: str) -> _Told:
        """The answer to a letter, with its ``state``: done, begun or unknown."""
        state = {"instance": self._instance, "to": nonce}
        kept = next((one for one in (self._deeds, self._reads) if nonce[:64] in one), None)
        if kept is None:
            return {**state, "state": "unknown"}
        found = kept.answer(nonce[:64])
        return {**state, "state": "begun"} if found is None else {**found, **state, "state": "done"}


def _nonce(letter: Mapping[str, Any]) -> str:
    """Its nonce; empty when it has none."""
    return str(letter.get("nonce") or "")[:64]


def _without_rows(answer: _Told, size: int) -> _Told:
    reason = {"worker": "", "reason": _CUT.format(size)}
    return {**answer, "rows": [], "text": None, "detail": "", "status": answer["status"] or 75,
            "missing": [*answer["missing"][:100], reason]}
