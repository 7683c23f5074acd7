"""One connection as its ASGI application sees it: scopes, and what happens to the socket.

Rules:

- The connection (apihour_http's) judges heads, keeps deadlines and the order of answers; here
  what it says becomes ASGI, and back. Neither imports the other: see ``host.py``.
- What every request of a connection has in common is made once.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

from apihour_asgi.exchange import HTTPExchange
from apihour_asgi.sides import ApplicationSide
from apihour_asgi.stream_exchange import DeclaredFields, StreamExchange
from apihour_asgi.websocket import asked_for

__all__ = ["ASGIConnection"]

_HTTP = {"version": "3.0", "spec_version": "2.4"}
_ORIGIN = ord("/")
_METHODS = {name.encode(): name for name in
            ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}

HeaderList = list[tuple[bytes, bytes]]


class ASGIConnection:
    """The application's side of one connection; `lane` is the connection."""

    __slots__ = ("_client", "_event", "_exchange", "_fields", "_headers", "_scheme", "_server",
                 "_version", "declared", "host", "lane", "running")

    def __init__(self, host: ApplicationSide, lane: Any) -> None:
        self.host = host
        self.lane = lane
        self.running: Any = None
        self._event: asyncio.Event | None = None
        self._fields: HeaderList | None = None
        self._headers: HeaderList = []
        self.declared: DeclaredFields | None = None
        memo = lane.memo
        if memo is None:
            self._exchange: type[HTTPExchange] = HTTPExchange
            self._look()
            return
        self._exchange = StreamExchange
        before = memo.get("asgi")
        if before is None:
            self._look()
            self.declared = DeclaredFields(lane.encoded)
        else:  # another stream of the same connection
            self._scheme, self._server, self._client = (
                before._scheme, before._server, before._client)
            self._version = before._version
            self._fields, self._headers = before._fields, before._headers
            self.declared = before.declared
        memo["asgi"] = self

    def _look(self) -> None:
        """See what all requests of the connection have in common."""
        lane = self.lane
        self._version = lane.http_version.removesuffix(".0")
        transport = lane.transport
        # What a PROXY header said of the client, if there was one.
        is_secure = (transport.get_extra_info("sslcontext")
                     or getattr(getattr(lane.conn, "proxied", None), "tls", ""))
        self._scheme = "https" if is_secure else "http"
        self._server = _address(transport.get_extra_info("sockname"))
        # The peer the core knows (PROXY protocol) is the client, not the proxy's socket.
        peer = getattr(lane.conn, "peer_address", None) or transport.get_extra_info("peername")
        self._client = _address(peer) if isinstance(peer, tuple) else None

    # -- what the connection asks

    def exchange(
        self, method: bytes, target: bytes, fields: HeaderList, keep: bool, modern: bool,
        length: int, upgrade: bool, arrived: float, has_te: bool, forwarded: bool,
    ) -> Any:
        """The exchange of a head that was judged; `length` is -1 for a chunked body."""
        scope = self._scope(method, target, fields, modern)
        if forwarded and (origin := self.lane.origin(fields)) is not None:
            _say(scope, origin)
        message = method, target, fields, modern
        if upgrade and method == b"GET" and self._last(b"upgrade").lower() == b"websocket":
            websockets = self.host.speaks_websocket()
            if websockets is not None:
                del scope["method"]
                return asked_for(self, message, scope, arrived, websockets)
        if has_te and modern and b"trailers" in self._last(b"te").lower():
            scope["extensions"] = {"http.response.trailers": {}}
        made = self._exchange(self, message, scope, arrived, keep, modern)
        if length:
            made.expect_body(length, modern and bool(self._last(b"expect")))
        return made

    def _last(self, name: bytes) -> bytes:
        """The last value of that name among the fields of this request; empty without one."""
        return dict(self._headers).get(name, b"")

    def _scope(
        self, method: bytes, target: bytes, fields: HeaderList, modern: bool,
    ) -> dict[str, Any]:
        if fields is not self._fields:
            self._headers = self.lane.lowered(fields)
            self._fields = fields
        if target[0] != _ORIGIN or b"#" in target:
            target = _origin(target)
        raw, _, query = target.partition(b"?")
        path = raw.decode("ascii")
        if "%" in path:
            path = unquote(path)
        added = self.host.added
        if added:
            path, raw = added + path, added.encode("ascii") + raw
        return {
            "type": "http", "asgi": _HTTP.copy(),
            "http_version": self._version if modern else "1.0", "scheme": self._scheme,
            "method": _METHODS.get(method) or method.decode("ascii"),
            "server": self._server, "client": self._client,
            "root_path": self.host.root_path, "path": path, "raw_path": raw, "query_string": query,
            "headers": self._headers.copy(), "state": self.host.state.copy(),
        }

    def serve(self, exchange: Any) -> Any:
        """The coroutine that runs the application for one exchange."""
        self.running = exchange
        return exchange.run()

    def route(self) -> str:
        """What FastAPI and its like have routed the request to; read by whoever looks."""
        scope = getattr(self.running, "scope", None) or {}
        path = getattr(scope.get("route"), "path", None)
        return f"{scope.get('method', 'GET')} {path}" if isinstance(path, str) else ""

    # -- what the connection tells

    def must_know_of_end(self) -> bool:
        """The client sends no more: whether it is gone with that, or is to be answered.

        It is gone when it owes the rest of a body; else who waits for it to leave is told.
        """
        if not self.running.is_complete:
            return True
        self.running.input_ended()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self.running is not None:
            self.running.lost()
            self.running = None
        self.resume_writing()

    def announce_close(self) -> None:
        """Draining: heads are made at the last moment, and say so by themselves."""

    def goodbye(self) -> None:
        """Draining: an accepted WebSocket is closed with 1012."""
        self.running.goodbye()

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._event is not None:
            self._event.clear()

    def resume_writing(self) -> None:
        """The client reads on."""
        if self._event is not None:
            self._event.set()

    async def writable(self) -> None:
        """Wait until the client reads on, or is gone."""
        if self._event is None:
            self._event = asyncio.Event()
        await self._event.wait()


def _say(scope: dict[str, Any], origin: Any) -> None:
    """Have a scope say what a proxy that is believed says."""
    if origin.remote:
        scope["client"] = origin.remote, origin.port
    if origin.scheme:
        scope["scheme"] = origin.scheme
    if origin.host:
        host = origin.host.encode("latin-1")
        scope["headers"] = [(name, host if name == b"host" else value)
                            for name, value in scope["headers"]]


def _address(name: Any) -> tuple[str, int | None] | None:
    """A socket's name as ASGI has it: host and port, or a path and None."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) and name else None


def _origin(target: bytes) -> bytes:
    """The origin form of a target that was found acceptable (RFC 9112 3.2)."""
    target = target.partition(b"#")[0]
    if target[:1] in (b"/", b"*"):
        return target
    rest = target.partition(b"://")[2]
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    rest = rest[cut:]
    return rest if rest.startswith(b"/") else b"/" + rest
