"""What is asked of a host in time, or not begun at all, and answers that can be asked for again.

Rules:

- Before a host is asked for what takes long it gives a ticket, and takes it back with the letter
  for five seconds, by its own clock: a host that was stopped, or cut off, does not begin what
  whoever asked has given up.
- The latest answers to such letters are kept: one that was lost on its way is sent again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from apihour.errors import ApihourError

__all__ = ["FRESH", "Tickets"]

FRESH = 5.0  # seconds from a ticket to the letter with it
_KEPT = 64  # answers
_LARGEST = 100_000  # characters of an answer that is kept


class Tickets:
    """Those of one console."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._answers: OrderedDict[str, Mapping[str, Any] | None] = OrderedDict()

    def give(self) -> list[Any]:
        """A ticket of now."""
        return [self._instance, time.monotonic()]

    def begin(self, letter: Mapping[str, Any]) -> None:
        """Begin what a letter asks, unless its ticket is over. Raises ApihourError."""
        ticket = letter.get("ticket")
        if ticket is None:
            return
        instance, given = ticket
        late = time.monotonic() - float(given)
        if instance != self._instance:
            raise ApihourError("its console is another one by now; nothing was begun, ask again")
        if not 0 <= late <= FRESH:
            raise ApihourError(f"it was read {late:.0f} s after it was written; nothing was begun, "
                               "ask again")
        self._answers[str(letter.get("nonce"))[:64]] = None
        while len(self._answers) > _KEPT:
            self._answers.popitem(last=False)

    def end(self, nonce: str, answer: Mapping[str, Any]) -> None:
        """That is its answer."""
        if nonce in self._answers and len(repr(answer)) <= _LARGEST:
            self._answers[nonce] = answer

    def answer(self, nonce: str) -> Mapping[str, Any]:
        """The answer to a letter, with its ``state``: done, begun or unknown."""
        state = {"instance": self._instance, "to": nonce}
        if nonce not in self._answers:
            return {**state, "state": "unknown"}
        found = self._answers[nonce]
        return {**state, "state": "begun"} if found is None else {**found, **state, "state": "done"}
