"""``/livez``, ``/readyz`` and ``/metrics``: a very small HTTP/1.1 server in the console.

Rules:

- GET and HEAD only, one request per connection, bounded in size, time and number.
- The answers come from shared memory and the agents: they stay true, and come, when every
  worker is busy.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from http import HTTPStatus

from apihour_console.fleet.census import Census
from apihour_console.fleet.metrics import FleetMeter, readiness, render

__all__ = ["HealthServer"]

_CONNECTIONS = 64  # at a time
_HEAD = 16 * 1024  # bytes of a request's head
_PATIENCE = 5.0  # seconds for a request to arrive, and for its answer to be taken
_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """Serves one listening socket; ``start(sock)``, ``stop()``."""

    def __init__(self, census: Census, meter: FleetMeter, logger: logging.Logger) -> None:
        self._census = census
        self._meter = meter
        self._logger = logger
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, sock: socket.socket) -> None:
        """Serve a socket that is bound already."""
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=_HEAD)

    async def stop(self) -> None:
        """Close the listener; answers under way are finished."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > _CONNECTIONS:
                return
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = await self.answer(head)
            writer.write(_response(status, kind, body, head.startswith(b"HEAD ")))
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            writer.write(_response(status, _TEXT, f"{status.phrase}\n", False))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the peer left, or never came to the point: nobody to answer
        finally:
            self._open -= 1
            writer.close()

    async def answer(self, head: bytes) -> tuple[HTTPStatus, str, str]:
        """Status, content type and body for the head of a request."""
        parts = head.split(b"\r\n", 1)[0].split()
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return HTTPStatus.BAD_REQUEST, _TEXT, "expected GET PATH HTTP/1.1\n"
        if parts[0] not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, "expected GET or HEAD\n"
        path = parts[1].partition(b"?")[0]
        if path == b"/livez":
            return self._alive()
        if path == b"/readyz":
            ready, reason = readiness(self._census)
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _TEXT, f"{'ready' if ready else 'not ready'}: {reason}\n"
        if path == b"/metrics":
            families, missing = await self._meter.collect()
            for one in missing:
                self._logger.debug("metrics: worker %s: %s", one.worker, one.reason)
            return HTTPStatus.OK, _METRICS, render(families)
        return HTTPStatus.NOT_FOUND, _TEXT, "there is /livez, /readyz and /metrics\n"

    def _alive(self) -> tuple[HTTPStatus, str, str]:
        alive = [one for one in self._census.daemons() if one.alive]
        if not alive:
            return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "not alive: there is no arbiter\n"
        return HTTPStatus.OK, _TEXT, f"alive: arbiter {alive[-1].arbiter}\n"


def _response(status: HTTPStatus, kind: str, body: str, head_only: bool) -> bytes:
    data = body.encode()
    allow = "Allow: GET, HEAD\r\n" if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(data)}\r\nCache-Control: no-store\r\n{allow}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else data)
