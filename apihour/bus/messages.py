"""What a subscription yields: messages, and gaps where some are missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from apihour.errors import BusError

__all__ = ["LIMIT", "BusMessage", "Gap"]

LIMIT = 65536  # messages that may wait for a subscriber, unless it says otherwise


class BusMessage:
    """One message: its `subject` and its `data`."""

    __slots__ = ("_answer", "data", "subject")

    def __init__(
        self, subject: str, data: bytes, answer: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        self.subject = subject
        self.data = data
        self._answer = answer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.subject!r}, {self.data!r:.80})"

    @property
    def is_request(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._answer is not None

    async def reply(self, data: bytes = b"") -> None:
        """Answer whoever asked. Raises BusError when nobody did."""
        if self._answer is None:
            raise BusError(f"subject {self.subject!r}: nobody waits for an answer to what was "
                           "published; expected a request")
        await self._answer(data)


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are missing at this place of a subscription: `missed` of them (None: not known)."""

    pattern: str
    missed: int | None
