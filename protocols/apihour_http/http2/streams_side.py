"""What a stream needs of its connection: the shape by which it knows it.

Rule: streams and connections know one another by shapes, so that each module imports downwards.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from apihour_http.http2.allowance import Allowance
from apihour_http.http2.outflow import Outflow

if TYPE_CHECKING:
    from apihour_http.forwarded.origin import Origin
    from apihour_http.head import Fields
    from apihour_http.service import Service

__all__ = ["StreamsSide", "Watching"]


class Watching(Protocol):
    """Who keeps the deadlines of a connection."""

    def soon(self) -> None:
        """Something is under way that must not last."""


class StreamsSide(Protocol):
    """A connection, as its streams see it."""

    service: Service
    loop: asyncio.AbstractEventLoop
    conn: Any
    transport: Any
    out: Outflow
    watch: Watching
    dated: Any
    memo: dict[str, Any]
    allowance: Allowance
    began: float
    table_update: bytes
    """What the next header block begins with."""

    def remote(self) -> str | None:
        """The peer's address without its port."""

    def origin(self, fields: Fields) -> Origin | None:
        """What a proxy that is believed says of the request with these fields."""

    def credit(self, stream: Any, size: int) -> None:
        """So many bytes of its body were taken, besides those that are due."""

    def keep(self, stream: Any, size: int) -> None:
        """So many bytes of its body are kept until all of it is there."""

    def send_reset(self, stream: Any, code: int) -> None:
        """Reset a stream."""

    def forget(self, stream: Any) -> None:
        """A stream is no more."""

    def orphaned(self, stream: Any) -> None:
        """A stream is no more whose task may run on."""
