"""Every name of uvicorn that is not documented API, and why each is needed.

Rules:

- No other module of this package touches uvicorn; ``tests/apihour_asgi/test_uvicorn.py``
  names what moved when a release moves it.
- Nothing is added to the path of a request but one counter per response, and its status
  (``statuses.py``).

Names used: ``Config.load``, ``.http_protocol_class``, ``.ws_protocol_class``,
``.encoded_headers`` (uvicorn's choice of parser and of its options); ``ServerState``
(what the protocols share: connections, tasks, default headers); of the HTTP protocols
``handle_websocket_upgrade``, ``ws_protocol_class``, ``on_response_complete``, ``shutdown``,
``client``, ``cycle``, ``timeout_keep_alive_task``, ``access_log``, ``access_logger``;
``disconnected`` of the cycle whose method ``send`` is; of the WebSocket protocols
``handshake_complete``, ``close_sent``, ``disconnected``, ``default_headers``, ``send``,
``shutdown``, ``client``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from apihour_asgi.statuses import Statuses

__all__ = ["GOING_AWAY", "Hosting"]

# Close code of an endpoint that goes away (RFC 6455, section 7.4.1).
GOING_AWAY = 1001
_CLOSE = (b"connection", b"close")


class Hosting:
    """One application's configuration, protocol classes and shared state in uvicorn.

    Raises ImportError naming the extra when uvicorn is missing, and what
    ``uvicorn.Config`` raises for options it does not know.
    """

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        try:
            import uvicorn
            from uvicorn.server import ServerState
        except ImportError as error:
            raise ImportError(
                f"ASGI applications are served by uvicorn, which cannot be imported ({error}): "
                "pip install 'apihour[asgi]'"
            ) from error
        # log_config=None: logging belongs to who hosts; access_log=True: False would silence
        # uvicorn's logger for the whole process. lifespan is ours (lifespan.py).
        facts = {"server_header": False, **options, "interface": "asgi3", "lifespan": "off",
                 "log_config": None, "access_log": True}
        self.statuses = Statuses(is_gone)
        self.config = uvicorn.Config(self.statuses.count(app), **facts)
        self.state = ServerState()
        self.draining = False
        self.access_log: logging.Logger | None = None
        # The handshake of a WebSocket is answered "Connection: Upgrade", never "close".
        self.websocket_headers: list[tuple[bytes, bytes]] = []
        self.http_class: Any = None
        self.websocket_class: Any = None

    def load(self, keepalive: float) -> None:
        """Choose the protocol classes. Idle connections are closed after `keepalive` seconds."""
        self.config.timeout_keep_alive = keepalive  # type: ignore[assignment]
        if not self.config.loaded:
            self.config.load()
        self.http_class = _http_class(self.config.http_protocol_class)
        if self.config.ws_protocol_class is not None:
            self.websocket_class = _websocket_class(self.config.ws_protocol_class)
        self.tick()

    def tick(self) -> None:
        """Renew the headers of every response; call it once a second, for their date."""
        headers = list(self.config.encoded_headers)
        if self.config.date_header:
            headers.insert(0, (b"date", formatdate(usegmt=True).encode()))
        # In place: responses that have not begun yet see the change too.
        self.websocket_headers[:] = headers
        self.state.default_headers[:] = [*headers, _CLOSE] if self.draining else headers

    def protocol(self, conn: Any, app_state: dict[str, Any]) -> Any:
        """The protocol of one new connection."""
        made = self.http_class(config=self.config, server_state=self.state, app_state=app_state)
        made.hosting, made.row = self, conn
        made.access_log = self.access_log is not None
        if made.access_log:
            made.access_logger = self.access_log
        return made

    @property
    def requests(self) -> int:
        """Responses completed since start."""
        return self.state.total_requests

    def connections(self) -> list[Any]:
        """The open HTTP and WebSocket protocols."""
        return list(self.state.connections)

    def websockets(self) -> list[Any]:
        """Those of them that speak WebSocket."""
        return [p for p in self.state.connections if is_websocket(p)]


def is_websocket(protocol: Any) -> bool:
    """Whether one of uvicorn's protocols speaks WebSocket."""
    return hasattr(protocol, "handshake_complete") or not hasattr(protocol, "cycle")


def awaits_head(protocol: Any) -> bool:
    """Whether the peer of an HTTP protocol owes a request head, or the rest of one."""
    cycle = protocol.cycle
    if cycle is None:
        return True
    return cycle.response_complete and protocol.timeout_keep_alive_task is None


def is_gone(send: Any) -> bool:
    """Whether the client of the exchange that `send` belongs to has left."""
    return bool(getattr(getattr(send, "__self__", None), "disconnected", False))


async def close_websocket(protocol: Any) -> None:
    """Begin the closing handshake with 1001; the peer gets uvicorn's 10 s to answer.

    The application finds ``websocket.disconnect`` in ``receive``; if it goes on to send, it is
    told what it would be told of a client that left.
    """
    if not hasattr(protocol, "close_sent") or not hasattr(protocol, "disconnected"):
        protocol.shutdown()  # wsproto, and the older websockets class: 1012, then closed
        return
    if not protocol.close_sent and not protocol.disconnected:
        await protocol.send({"type": "websocket.close", "code": GOING_AWAY})
        protocol.disconnected = True


def ready_for_close(protocol: Any) -> bool:
    """Whether the WebSocket handshake is over, so that a close frame may be sent."""
    return bool(getattr(protocol, "handshake_complete", True))


def _http_class(base: Any) -> Any:
    class Hosted(base):  # type: ignore[misc]
        """One of uvicorn's HTTP protocols, with the facts the core knows of a connection."""

        hosting: Hosting
        row: Any = None
        awaiting: tuple[float, Any] | None = None
        """Since when (loop time), and after which cycle, the peer has owed a request head."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            _true_peer(self)

        def handle_websocket_upgrade(self, *arguments: Any) -> None:
            if self.row is not None:
                self.row.state = "websocket"
            hosting, row = self.hosting, self.row

            def make(**facts: Any) -> Any:
                made = hosting.websocket_class(**facts)
                made.default_headers, made.row = hosting.websocket_headers, row
                return made

            self.ws_protocol_class = make
            super().handle_websocket_upgrade(*arguments)

        def on_response_complete(self) -> None:
            if self.row is not None:
                self.row.requests += 1
            super().on_response_complete()

    return Hosted


def _websocket_class(base: Any) -> Any:
    class HostedWebSocket(base):  # type: ignore[misc]
        """One of uvicorn's WebSocket protocols."""

        row: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            _true_peer(self)

    return HostedWebSocket


def _true_peer(protocol: Any) -> None:
    """The peer the core knows (PROXY protocol) is the client, not the proxy's socket."""
    row = protocol.row
    if row is not None and isinstance(row.peer_address, tuple):
        protocol.client = (str(row.peer_address[0]), int(row.peer_address[1]))
