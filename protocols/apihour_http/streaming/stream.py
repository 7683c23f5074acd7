"""Stream: an answer whose body an async iterator makes while it is sent.

Rules:

- It is a value: nothing runs before it is answered with, and nothing here does I/O.
- The head leaves with the first piece, so that what fails before it is answered like any
  endpoint's failure.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Mapping
from typing import Any

from apihour_http.response import Live, safe_header
from apihour_http.streaming.sending import Sending

__all__ = ["Stream"]

HeaderFields = Mapping[str, str] | list[tuple[str, str]] | None

# RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no body.
_BODILESS = frozenset({204, 205, 304})


class Stream(Live):
    """Answers with the pieces of `body`, an async iterator of bytes or str (sent as UTF-8).

    The next piece is asked for when the client has room for it, and the iterator is cancelled
    when the client leaves. `endless` is for a feed that never ends by itself: it ends, in order,
    when the server drains; other streams are sent to their end. `length` is that of the body, in
    bytes, when it is known: it becomes Content-Length, and the pieces must come to it. Raises
    TypeError for a body that is no async iterator, ValueError for a status without a body or a
    header that would break the message.
    """

    __slots__ = ("body", "endless", "length")

    content_type = "application/octet-stream"
    heartbeat: float = 0.0
    """Seconds of silence after which :meth:`beat` is sent; 0 for none."""
    opens = False
    """Whether the head is sent before the first piece."""

    def __init__(
        self, body: AsyncIterable[Any], status: int = 200, headers: HeaderFields = None, *,
        endless: bool = False, length: int | None = None,
    ) -> None:
        name = type(self).__name__
        if not hasattr(body, "__aiter__"):
            raise TypeError(f"{name}({_shown(body)}): expected an async iterator, as calling "
                            "an async def with a yield makes it")
        if not 200 <= status <= 599 or status in _BODILESS:
            raise ValueError(f"{name}(status={status!r}): expected 200 to 599, and not "
                             "204, 205 or 304, which have no body")
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        self.done = None
        self.status = status
        self.headers = [(name, safe_header(name, value)) for name, value in pairs]
        self.default_header("Content-Type", self.content_type)
        self.body: AsyncIterator[Any] = aiter(body)
        if length is not None and (type(length) is not int or length < 0):
            raise ValueError(f"{name}(length={length!r}): expected bytes, a whole number")
        self.endless = endless
        self.length = length

    def default_header(self, name: str, value: str) -> None:
        """Add a header, unless there is one of that name."""
        if not any(known.lower() == name.lower() for known, _ in self.headers):
            self.headers.append((name, value))

    def encode(self, piece: Any) -> bytes:
        """The bytes of one piece. Raises TypeError for what is neither bytes nor str."""
        if isinstance(piece, str):
            return piece.encode()
        if isinstance(piece, bytes | bytearray | memoryview):
            return bytes(piece)
        raise TypeError(f"a stream yielded {ascii(piece)[:100]}: expected bytes or str")

    def beat(self) -> bytes:
        """What is sent after a silence."""
        return b""

    def goodbye(self) -> bytes:
        """What is sent at last when the server drains."""
        return b""

    def send(self, lane: Any, request: Any) -> Coroutine[Any, Any, None]:
        """Send all of it, and do what is due after an answer."""
        return Sending(lane, request, self).run()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


def _shown(body: Any) -> str:
    if inspect.isfunction(body):
        return f"{body.__name__}: a function that was not called"
    return ascii(body)[:100]
