"""What an application behind the connection looks like: the shape every host of one has.

Rules:

- A host is recognised by its shape (:class:`Host`), so that a package can serve its kind of
  application over these connections without importing this one, and without being imported.
- ``aiohttp.host`` is the host of aiohttp's applications; ``apihour_asgi`` has that of ASGI's.
- A connection (:class:`HostingLane`) runs one exchange at a time, in the order received, and
  hears of its answer by ``lane.hosted_done(exchange, status, size)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, runtime_checkable

from apihour_http.head import Fields

__all__ = ["Exchange", "Host", "HostedSide", "HostingLane", "MountingPlugin"]


class HostingLane(Protocol):
    """One connection, as the application's side of it sees it."""

    loop: asyncio.AbstractEventLoop
    http_version: str
    """``1.1`` or ``2.0``; a request of HTTP/1.0 says so by itself."""
    memo: dict[str, Any] | None
    """What the streams of a connection of HTTP/2 remember for one another; None on HTTP/1."""
    conn: Any
    """The host's row for it."""
    transport: asyncio.Transport | None
    """None once the client is gone."""
    write: Callable[[bytes], None]
    current: Any
    """The exchange that is being answered."""
    write_paused: bool
    """Whether the client does not read."""
    paused: int
    """Not 0 while nothing is read."""
    longest_message: int
    """Bytes of the longest that :meth:`messages` takes."""

    def keepalive(self) -> float:
        """Seconds of silence after which an idle connection is closed."""

    def closes(self) -> bool:
        """Whether an answer with nothing behind it is the last, and should say so."""

    def is_draining(self) -> bool:
        """Whether the server says goodbye."""

    def is_last(self) -> bool:
        """Whether nothing waits behind the request that is being answered."""

    def remote(self) -> str | None:
        """The peer's address without its port; None for a unix socket."""

    def origin(self, fields: Fields) -> Any:
        """What a proxy that is believed says of the request with these fields; None: nothing.

        It has ``remote``, ``port``, ``scheme`` and ``host``, each empty where it is not told.
        """

    def client(self, fields: Fields) -> str | None:
        """The address of who sent the request with these fields."""

    def lowered(self, fields: Fields) -> Fields:
        """Names in lower case, and values without white space behind them (RFC 9110 5.5)."""

    def hosted_done(self, exchange: Any, status: int, size: int) -> None:
        """The exchange has its answer; its ``keep`` says what comes next."""

    def messages(
        self, data: bytes | bytearray, limit: int
    ) -> tuple[list[str | bytes], int]:
        """Whole messages of WebSocket: see ``apihour_http.connection.whole_messages``."""

    def framed(self, message: str | bytes | bytearray | memoryview) -> bytes:
        """A message of WebSocket as a server sends it; the same module says how."""

    def upgraded(self, taker: Callable[[bytes], int | None]) -> None:
        """A WebSocket was accepted: bytes go to `taker` from now on.

        Which may return how many bytes of a frame are still to come.
        """

    def send_continue(self) -> None:
        """Ask for the body that an Expect announced (RFC 9110 10.1.1)."""

    def pause_payload(self) -> None:
        """The application does not keep up with the body."""

    def resume_payload(self) -> None:
        """The application wants more of the body."""

    def close(self) -> None:
        """Close once everything written is on its way."""

    def close_discarding(self, left: int = 0) -> None:
        """Close, but read on for a moment, so that the last answer is not lost."""

    def abort(self) -> None:
        """Drop the connection, with whatever was not sent."""


class Exchange(Protocol):
    """One request, and what becomes of it."""

    answered: bool
    """Whether the answer was complete before the request was."""
    arrived: float
    has_body: bool
    is_complete: bool
    keep: bool
    """Whether the connection stays open after the answer."""
    left: int
    """Bytes of the body that are still to come; below 0 when that is not known."""
    websocket: bool

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body; :meth:`HostingLane.pause_payload` when that is enough."""

    def complete(self) -> None:
        """The message has ended."""

    def fail(self, error: Any) -> None:
        """The message is broken, or takes too long: `error` is an HTTPError."""

    def abandon(self) -> None:
        """The answer was complete and the connection stays: discard what is to come."""

    def named(self) -> tuple[str, str]:
        """Method and target."""

    def fields(self) -> Iterable[tuple[bytes, bytes]]:
        """The header fields, as they came."""

    def client(self) -> str | None:
        """The address of who sent it, as far as that is known."""

    def log(self, log: Any, status: int, size: int, now: float) -> None:
        """Enter the exchange into the access log."""


class HostedSide(Protocol):
    """The application's side of one connection."""

    running: Any
    """The exchange that is being answered."""

    def exchange(
        self, method: bytes, target: bytes, fields: Fields, keep: bool, modern: bool,
        length: int, upgrade: bool, arrived: float, has_te: bool,
        forwarded: bool,
    ) -> Any:
        """The exchange of a head that was judged; `length` is -1 for a chunked body.

        `has_te`: a TE says what transfer codings the client takes, trailers among them;
        `forwarded`: :meth:`HostingLane.origin` may know more of where the request is from.
        """

    def serve(self, exchange: Any) -> Coroutine[Any, Any, None]:
        """Run the application for an exchange."""

    def must_know_of_end(self) -> bool:
        """The client sends no more: whether it is taken for gone, or may still be answered."""

    def route(self) -> str:
        """What of the application answers it: ``GET /users/{id}``, empty where that is unknown."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def announce_close(self) -> None:
        """The server drains: the answer under way should say that it is the last."""

    def goodbye(self) -> asyncio.Task[Any] | None:
        """The server drains: end what was upgraded; a task is waited for."""

    def pause_writing(self) -> None:
        """The client does not read."""

    def resume_writing(self) -> None:
        """The client reads on."""


@runtime_checkable
class Host(Protocol):
    """Runs one application and connects connections to it."""

    async def start(self, container: Any, logger: Any, debug: bool) -> None:
        """Start the application. Raises what its start-up raises."""

    def connect(self, lane: Any) -> HostedSide:
        """The application's side of one connection."""

    async def stop(self) -> None:
        """End the application; its connections are gone."""


class MountingPlugin(Protocol):
    """A plugin whose applications can be mounted under a path of a server of HTTP.

    A host that has ``async wait_idle()`` is waited for when the server drains.
    """

    def accepts(self, obj: object, kind: str) -> bool:
        """Whether `obj` is an application, or a server, of this plugin's."""

    def mounted(self, obj: Any, path: str) -> Host:
        """What runs `obj` under `path`, which is empty for all of a server.

        Its exchanges get whole targets, with that path.
        """
