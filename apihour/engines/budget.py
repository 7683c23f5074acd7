"""What a pool may have: the leases of its daemon, or, without a daemon, all for itself."""

from __future__ import annotations

from typing import Protocol

from apihour.shared.leases import Wish

__all__ = ["Alone", "Budget"]


class Budget(Protocol):
    """What :class:`apihour.shared.Leases` offers."""

    limit: int

    def take(self) -> int | None: ...
    def give_back(self, number: int) -> None: ...
    def wish(self, wish: Wish) -> None: ...
    def is_wished(self, wish: Wish) -> bool: ...
    def share(self) -> int: ...
    def mend(self) -> set[int]: ...
    def close(self) -> None: ...


class Alone:
    """The budget of a process that shares with nobody."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = set(range(limit))

    def take(self) -> int | None:
        """One, None when all are taken."""
        return self._free.pop() if self._free else None

    def give_back(self, number: int) -> None:
        """It may be taken again."""
        self._free.add(number)

    def wish(self, wish: Wish) -> None:
        """Nobody listens."""

    def is_wished(self, wish: Wish) -> bool:
        """Nobody wishes."""
        return False

    def share(self) -> int:
        """All."""
        return self.limit

    def mend(self) -> set[int]:
        """Nothing can be lost."""
        return set()

    def close(self) -> None:
        """Nothing is held."""
