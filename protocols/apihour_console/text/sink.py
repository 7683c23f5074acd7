"""Where the output of a command goes, whatever face of the shell it was typed at."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Sink"]


class Sink(Protocol):
    """Where output goes. ``width`` is None where it is not a terminal, ``height`` (in lines)
    where it has no screen to paint on.

    ``leaves_unnoticed``: only writing tells that whoever reads has gone away.
    """

    width: int | None
    colour: bool
    leaves_unnoticed: bool

    @property
    def height(self) -> int | None: ...

    async def out(self, text: str) -> None:
        """Print rows; returns when the reader has taken enough. ConnectionError: gone."""

    async def draw(self, text: str) -> None:
        """Print what was made for this screen: ``out``, but never a page at a time."""

    async def err(self, text: str) -> None:
        """Print for the operator's eyes: errors, missing workers."""
