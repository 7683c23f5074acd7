"""What the arbiter's loop asks of each of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["ArbiterPart", "nothing"]


class ArbiterPart:
    """A part of the arbiter; one that does not say otherwise does nothing."""

    def advance(self) -> None:
        """In every turn, until the daemon stops."""

    def watched(self) -> Mapping[int, Callable[[], None]]:
        """Before every poll: the descriptors to watch, and what is called when one is readable."""
        return {}

    def is_busy(self) -> bool:
        """Whether something with a deadline is under way."""
        return False

    def on_exit(self, pid: int, status: int) -> bool:
        """A child has ended; returns whether it was one of this part's."""
        return False

    def stop(self) -> None:
        """The daemon stops: give up what is under way."""

    def shed(self) -> None:
        """In a child: let go of what is the arbiter's alone."""


def nothing() -> None:
    """For a descriptor that the next :meth:`ArbiterPart.advance` reads."""
