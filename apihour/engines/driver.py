"""What a pool needs of a database's library: the few calls that differ from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Driver", "Purpose"]


@dataclass(frozen=True)
class Purpose:
    """What a connection is wanted for; in a transaction or not."""

    transaction: bool = False
    isolation: str = ""
    readonly: bool = False


class Driver(Protocol):
    """The calls; a connection is whatever the library makes."""

    survives_cancel: bool
    """Whether a connection can be used again after a call of it was cancelled."""
    ping_after: float
    """Seconds unused after which a connection is tried before it is given out."""

    async def connect(self) -> Any:
        """A new connection. Raises what the library does."""

    async def disconnect(self, connection: Any) -> None:
        """Close it; once this returned the server does not count it any more."""

    def drop(self, connection: Any) -> None:
        """Close it at once, whatever goes on in it."""

    def is_open(self, connection: Any) -> bool:
        """Whether it is not known to be closed."""

    async def ping(self, connection: Any) -> None:
        """Ask the server for an answer. Raises when there is none."""

    async def begin(self, connection: Any, wanted: Purpose) -> Any:
        """Begin a transaction; what is returned is given to the next two."""

    async def commit(self, connection: Any, begun: Any) -> None:
        """Commit it."""

    async def rollback(self, connection: Any, begun: Any) -> None:
        """Roll it back, if one was begun; the call before may have been cancelled."""

    async def reset(self, connection: Any) -> None:
        """Undo what one user has set for the next one."""
