"""How a request becomes a WebSocket: the ASGI plugin's engine, called by an endpoint.

Rules:

- The engine is found where the host finds plugins, by its entry point; neither package imports
  the other. Its frames, limits, pings and closing handshake hold here.
- What an endpoint or a middleware answers in place of ``accept()`` refuses the handshake.
- Its connection ends with it: nothing follows on it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from importlib.metadata import entry_points
from typing import Any

from apihour_http.errors import HTTPError
from apihour_http.response import Response, is_aiohttp
from apihour_http.side import Side
from apihour_http.websocket.declared import KEY, WebSocketOptions
from apihour_http.websocket.socket import WebSocket, WebSocketDisconnect

__all__ = ["WebSockets"]

_REQUEST = "apihour_http.request"
_FAILED, _REFUSED = 1011, 1008  # RFC 6455 7.4.1


class WebSockets:
    """Those of one endpoint. Raises ImportError naming what is to be installed."""

    __slots__ = ("_endpoint", "_host", "_options")

    def __init__(self, endpoint: Any, options: WebSocketOptions) -> None:
        found = list(entry_points(group="apihour.protocols", name="asgi"))
        if not found or importlib.util.find_spec("websockets") is None:
            raise ImportError(f"{endpoint.route()} is a WebSocket, which needs websockets: "
                              "pip install 'apihour[asgi]'")
        self._endpoint = endpoint
        self._options = options
        self._host = found[0].load().websocket_host(
            self._run, max_size=options.max_size, ping_interval=options.ping_interval or None)

    def begin(self, intake: Any, request: Any) -> None:
        """Take a request that asks for an upgrade, if it is one to a WebSocket."""
        asked = [value for name, value in request.raw_headers if name.lower() == b"upgrade"]
        if request.verb == b"GET" and asked[-1].strip(b" \t").lower() == b"websocket":
            intake.pending = _Side(self._host, self._endpoint, request).running

    async def wait_idle(self) -> None:
        """Return when no endpoint runs."""
        await self._host.wait_idle()

    async def stop(self) -> None:
        """Cancel those that run."""
        await self._host.stop()

    async def _run(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The application behind the engine: one call of the endpoint."""
        request = scope.pop(_REQUEST)  # which leads to the scope, too
        service = request.lane.service
        spoken = self._options.subprotocols
        agreed = next((one for one in spoken if one in scope["subprotocols"]), None)
        websocket = WebSocket(request.lane.hosted.running, agreed, service.options.loads,
                              service.renderer.encode_json)
        await receive()  # websocket.connect
        request[KEY] = websocket
        try:
            result = await self._endpoint.call(request)
        except WebSocketDisconnect:
            result = None
        except Exception as error:
            result = service.failed(request, error)
        if websocket.is_accepted:
            await _close(websocket, result)
        else:
            await _refuse(service, request, result, send)


async def _close(websocket: WebSocket, result: Any) -> None:
    """The endpoint is done; what it could not answer any more becomes the code."""
    status = getattr(result, "status", 0)
    if status >= 400:
        await websocket.close(_FAILED if status >= 500 else _REFUSED)
    else:
        await websocket.close()


async def _refuse(service: Any, request: Any, result: Any, send: Any) -> None:
    """Answer a handshake that was not accepted: what looks like a success is 403."""
    is_answer = isinstance(result, Response | HTTPError) or is_aiohttp(result)
    if not is_answer or result.status < 300:
        result = HTTPError(403, "the WebSocket was not accepted")
    try:
        status, _, head, rest = service.renderer.render(result, "", False)
    except Exception as error:
        status, _, head, rest = service.renderer.render(service.failed(request, error), "", False)
    lines, _, body = (head + rest).partition(b"\r\n\r\n")
    fields = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n")[1:]]
    await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": body})


class _Side(Side):
    """The engine's side of the connection, which stands there once the request has its turn."""

    __slots__ = ("_endpoint", "_inner", "_request", "_task", "running")

    def __init__(self, host: Any, endpoint: Any, request: Any) -> None:
        super().__init__(request.lane)
        self._endpoint = endpoint
        self._request = request
        self._task: asyncio.Task[Any] | None = None
        self._inner = host.connect(request.lane)
        self.running = self._inner.exchange(
            request.verb, request.target, request.raw_headers, request.keep, request.modern, 0,
            True, request.arrived, False, True)
        self.running.scope[_REQUEST] = request
        self.running.hosted = self

    # -- what the engine asks

    @property
    def host(self) -> Any:
        """The application, as the engine sees it."""
        return self._inner.host

    async def writable(self) -> None:
        """Wait until the client reads on, or is gone."""
        await self._inner.writable()

    # -- what the connection tells

    def serve(self, exchange: Any) -> Any:
        """The coroutine that runs the endpoint."""
        self.take()
        return self._serve(exchange)

    async def _serve(self, exchange: Any) -> None:
        self._task = asyncio.current_task()
        try:
            await self._inner.serve(exchange)
        finally:
            self._task = self._request = None

    def route(self) -> str:
        """The route, for those who look."""
        return str(self._endpoint.route())

    def goodbye(self) -> Any:
        """The server drains: it is closed with 1012."""
        return self._inner.goodbye()

    def must_know_of_end(self) -> bool:
        """Whether a client that sends no more is taken for gone."""
        return bool(self._inner.must_know_of_end())

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        if self._task is not None and self.lane.service.options.cancel_on_disconnect:
            websocket = self._request.get(KEY)
            if websocket is None or not websocket.waits:
                self._task.add_done_callback(self.lane.answers.release)
                self._task.cancel()
        self._inner.connection_lost(exc)
        self.running = None  # it leads here
