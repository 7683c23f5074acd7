"""Server-sent events: the format of the WHATWG HTML Standard, section 9.2, over a stream.

Rules:

- An event is one block of lines; line breaks in its data make more lines of it, and none can
  end up in its other fields.
- A comment is sent after a silence, so that proxies and clients know that somebody is there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable, Coroutine
from typing import Any

from apihour_http.streaming.stream import HeaderFields, Stream

__all__ = ["SSE", "Event"]

# 9.2.5: what ends a line. Python's splitlines knows more, clients do not.
_LINE_END = re.compile(r"\r\n|\n|\r")
# 9.2.6: an id with NUL is ignored by clients; a line break would begin another field.
_BREAKS = re.compile(r"[\r\n\0]")


class Event:
    """One event: its `data` (text, or what becomes JSON), its name, id and retry.

    `id` is what a client sends as ``Last-Event-ID`` when it comes back; `retry` is how long it
    waits before it does, in milliseconds. Raises ValueError for a name or id with a line break
    or NUL, or a retry that is no whole number from 0 on.
    """

    __slots__ = ("data", "event", "id", "retry")

    def __init__(
        self, data: Any = None, *, event: str = "", id: str = "", retry: int | None = None,
    ) -> None:
        for name, value in (("event", event), ("id", id)):
            if not isinstance(value, str) or _BREAKS.search(value):
                raise ValueError(f"Event({name}={value!r}): expected text of one line")
        if retry is not None and (type(retry) is not int or retry < 0):
            raise ValueError(f"Event(retry={retry!r}): expected milliseconds, a whole number")
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry

    def __repr__(self) -> str:
        return f"<Event {self.event or 'message'} {self.id}>"

    def encode(self, encode_json: Callable[[Any], bytes]) -> bytes:
        """The lines of it. Raises what `encode_json` raises for data with no form in JSON."""
        lines = [f"id: {self.id}"] if self.id else []
        if self.event:
            lines.append(f"event: {self.event}")
        if self.retry is not None:
            lines.append(f"retry: {self.retry}")
        if self.data is not None:
            data = self.data
            text = data if isinstance(data, str) else encode_json(data).decode()
            lines += [f"data: {line}" for line in _LINE_END.split(text)]
        return "\n".join([*lines, "", ""]).encode()


class SSE(Stream):
    """Answers with the events of `events`: each an :class:`Event`, or only its data.

    A comment is sent after `heartbeat` seconds of silence (0: never). It is endless: when the
    server drains the iterator is cancelled, `goodbye` is sent (an Event, data, or a function
    that is called for one) and the answer ends; clients come back by themselves, to a worker
    that stays. Raises TypeError and ValueError as :class:`Stream` does.
    """

    __slots__ = ("_encode_json", "_goodbye", "heartbeat")

    content_type = "text/event-stream"
    opens = True

    def __init__(
        self, events: AsyncIterable[Any], *, heartbeat: float = 15.0, goodbye: Any = None,
        headers: HeaderFields = None,
    ) -> None:
        if isinstance(heartbeat, bool) or not isinstance(heartbeat, int | float) or (
            not 0 <= heartbeat < float("inf")
        ):
            raise ValueError(f"SSE(heartbeat={heartbeat!r}): expected seconds, 0 for none")
        super().__init__(events, 200, headers, endless=True)
        # No copy of it is of use, and nginx must not wait until it has filled a buffer.
        self.default_header("Cache-Control", "no-store")
        self.default_header("X-Accel-Buffering", "no")
        self.heartbeat = heartbeat
        self._goodbye = goodbye
        self._encode_json: Callable[[Any], bytes] = _no_json

    def encode(self, piece: Any) -> bytes:
        """The bytes of one event."""
        event = piece if isinstance(piece, Event) else Event(piece)
        return event.encode(self._encode_json)

    def beat(self) -> bytes:
        """A comment."""
        return b":\n\n"

    def goodbye(self) -> bytes:
        """The last event."""
        last = self._goodbye() if callable(self._goodbye) else self._goodbye
        return b"" if last is None else self.encode(last)

    def send(self, lane: Any, request: Any) -> Coroutine[Any, Any, None]:
        """Send all of it, and do what is due after an answer."""
        self._encode_json = lane.service.renderer.encode_json
        return super().send(lane, request)


def _no_json(data: Any) -> bytes:
    raise RuntimeError("events are encoded when they are sent")
