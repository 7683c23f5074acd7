"""What of a request its connection sets: in Python, where the extension is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from apihour_http.endpoint import Endpoint

__all__ = ["Received", "RequestLane"]


class RequestLane(Protocol):
    """The connection that a request came by."""

    service: Any  # apihour_http.service.Service
    transport: Any
    http_version: str

    def flush(self) -> None:
        """Write what is held."""

    def remote(self) -> str | None:
        """The peer's address without its port."""

    def origin(self, fields: list[tuple[bytes, bytes]]) -> Any:
        """What a proxy that is believed says (:class:`apihour_http.forwarded.origin.Origin`)."""


class Received:
    """All set by the connection, one by one: a call with ten arguments costs more."""

    __slots__ = (
        "arrived", "body", "endpoint", "keep", "lane", "match_info", "modern", "plain",
        "raw_headers", "target", "verb",
    )
    lane: RequestLane
    endpoint: Endpoint
    verb: bytes
    target: bytes
    raw_headers: list[tuple[bytes, bytes]]
    match_info: dict[str, Any]
    body: bytes
    arrived: float  # monotonic time
    # Whether the connection may stay open, speaks HTTP/1.1, and both of these in a request
    # that is not HEAD.
    keep: bool
    modern: bool
    plain: bool

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field by its `name` in lower case, or None."""
        size = len(name)
        for each, value in self.raw_headers:
            if len(each) == size and each.lower() == name:
                return value
        return None

    def parameter(self, name: bytes) -> str | bool | None:
        """The last value of the query's parameter `name`, or None.

        False where the query has what must be decoded first, or is long: then ``query`` does it.
        """
        query = self.target.partition(b"?")[2]
        if b"%" in query or b"+" in query or not query.isascii() or query.count(b"&") >= 64:
            return False
        found = None
        for part in query.split(b"&"):
            each, _, value = part.partition(b"=")
            if part and each == name:
                found = value
        return None if found is None else found.decode("ascii")
