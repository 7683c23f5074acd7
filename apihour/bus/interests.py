"""Who gets what is sent to a subject: patterns, queue groups, and what was found before."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from apihour.bus.subjects import matches

__all__ = ["Interests", "Matched"]

_REMEMBERED = 4096  # subjects whose receivers are known without looking

Receiver = TypeVar("Receiver", bound=Hashable)


class Matched(NamedTuple, Generic[Receiver]):
    """Who gets a message: each of `plain`, and one of each of `groups`, by name."""

    plain: tuple[Receiver, ...]
    groups: dict[str, tuple[Receiver, ...]]


class Interests(Generic[Receiver]):
    """Subscriptions by receiver."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], dict[Receiver, int]] = {}
        self._found: dict[str, Matched[Receiver]] = {}

    def add(self, pattern: str, queue: str, receiver: Receiver) -> None:
        """One subscription more of `receiver`."""
        receivers = self._all.setdefault((queue, pattern), {})
        receivers[receiver] = receivers.get(receiver, 0) + 1
        self._found.clear()

    def remove(self, pattern: str, queue: str, receiver: Receiver) -> None:
        """One subscription less; nothing when there is none."""
        receivers = self._all.get((queue, pattern), {})
        left = receivers.pop(receiver, 0) - 1
        if left > 0:
            receivers[receiver] = left
        if not receivers:
            self._all.pop((queue, pattern), None)
        self._found.clear()

    def forget(self, receiver: Receiver) -> None:
        """None of this receiver any more."""
        for key in list(self._all):
            self._all[key].pop(receiver, None)
            if not self._all[key]:
                del self._all[key]
        self._found.clear()

    def pairs(self) -> list[tuple[str, str]]:
        """Every pattern and queue, as often as it is subscribed to."""
        return [(pattern, queue) for (queue, pattern), receivers in self._all.items()
                for _ in range(sum(receivers.values()))]

    def match(self, subject: str) -> Matched[Receiver]:
        """Who gets what is sent to `subject`."""
        found = self._found.get(subject)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[subject] = self._look(subject)
        return found

    def _look(self, subject: str) -> Matched[Receiver]:
        plain: dict[Receiver, None] = {}
        groups: dict[str, list[Receiver]] = {}
        for (queue, pattern), receivers in self._all.items():
            if not matches(pattern, subject):
                continue
            if queue:
                groups.setdefault(queue, []).extend(
                    receiver for receiver, count in receivers.items() for _ in range(count))
            else:
                plain.update(dict.fromkeys(receivers))
        return Matched(tuple(plain), {queue: tuple(all_) for queue, all_ in groups.items()})
