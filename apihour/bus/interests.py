"""Who gets what is sent to a subject: patterns, queue groups, and what was found before."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Interests", "Matched"]

_REMEMBERED = 4096  # subjects whose receivers are known without looking
_HERE = ""  # in a tree: what ends here; no token is empty

Receiver = TypeVar("Receiver", bound=Hashable)


class Matched(NamedTuple, Generic[Receiver]):
    """Who gets a message: each of `plain`, and one of each of `groups`, by name."""

    plain: tuple[Receiver, ...]
    groups: dict[str, tuple[Receiver, ...]]


class Interests(Generic[Receiver]):
    """Subscriptions by receiver.

    Those without wildcards are found by name, those with them token by token, however many there
    are: one for each client, say.
    """

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], dict[Receiver, int]] = {}
        self._plain: dict[str, set[tuple[str, str]]] = {}
        self._wild: dict[str, Any] = {}  # a tree, by token
        self._found: dict[str, Matched[Receiver]] = {}

    def add(self, pattern: str, queue: str, receiver: Receiver) -> None:
        """One subscription more of `receiver`."""
        key = (queue, pattern)
        receivers = self._all.setdefault(key, {})
        receivers[receiver] = receivers.get(receiver, 0) + 1
        if _is_wild(pattern):
            _plant(self._wild, key)
        else:
            self._plain.setdefault(pattern, set()).add(key)
        self._unknow(pattern)

    def remove(self, pattern: str, queue: str, receiver: Receiver) -> None:
        """One subscription less; nothing when there is none."""
        receivers = self._all.get((queue, pattern), {})
        left = receivers.pop(receiver, 0) - 1
        if left > 0:
            receivers[receiver] = left
        self._tidy((queue, pattern))

    def forget(self, receiver: Receiver) -> None:
        """None of this receiver any more."""
        for key in [key for key, receivers in self._all.items() if receiver in receivers]:
            del self._all[key][receiver]
            self._tidy(key)

    def _tidy(self, key: tuple[str, str]) -> None:
        _, pattern = key
        if not self._all.get(key):
            self._all.pop(key, None)
            if _is_wild(pattern):
                _uproot(self._wild, key, pattern.split("."))
            keys = self._plain.get(pattern, set())
            keys.discard(key)
            if not keys:
                self._plain.pop(pattern, None)
        self._unknow(pattern)

    def _unknow(self, pattern: str) -> None:
        if _is_wild(pattern):
            self._found.clear()
        else:
            self._found.pop(pattern, None)

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
        wild: set[tuple[str, str]] = set()
        _gather(self._wild, subject.split("."), 0, wild)
        for key in [*self._plain.get(subject, ()), *wild]:
            queue, receivers = key[0], self._all[key]
            if queue:
                groups.setdefault(queue, []).extend(
                    receiver for receiver, count in receivers.items() for _ in range(count))
            else:
                plain.update(dict.fromkeys(receivers))
        return Matched(tuple(plain), {queue: tuple(all_) for queue, all_ in groups.items()})


def _is_wild(pattern: str) -> bool:
    return "*" in pattern.split(".") or pattern.endswith(">")


def _plant(tree: dict[str, Any], key: tuple[str, str]) -> None:
    for token in key[1].split("."):
        tree = tree.setdefault(token, {})
    tree.setdefault(_HERE, set()).add(key)


def _uproot(tree: dict[str, Any], key: tuple[str, str], tokens: list[str]) -> None:
    """Take `key` out, and branches that bear nothing any more; nothing when it is not there."""
    if not tokens:
        tree.get(_HERE, set()).discard(key)
        if not tree.get(_HERE):
            tree.pop(_HERE, None)
    elif (branch := tree.get(tokens[0])) is not None:
        _uproot(branch, key, tokens[1:])
        if not branch:
            del tree[tokens[0]]


def _gather(
    tree: dict[str, Any], tokens: list[str], at: int, found: set[tuple[str, str]]) -> None:
    """The keys whose patterns match `tokens`, of which `at` were looked at."""
    if at == len(tokens):
        found.update(tree.get(_HERE, ()))
        return
    found.update(tree.get(">", {}).get(_HERE, ()))
    for token in (tokens[at], "*"):
        if (branch := tree.get(token)) is not None:
            _gather(branch, tokens, at + 1, found)
