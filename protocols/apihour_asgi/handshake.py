"""The opening of a WebSocket (RFC 6455 4.2), judged by the library ``websockets``.

Rule: the library's documented protocols without I/O are used, and imported when the first
WebSocket is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["WebSocketSettings", "shake_hands"]


@dataclass(frozen=True)
class WebSocketSettings:
    """What the WebSockets of one server are: limits in bytes, times in seconds."""

    max_size: int = 16 * 1024 * 1024
    ping_interval: float | None = 20.0
    deflate: bool = True


def shake_hands(scope: dict[str, Any], options: WebSocketSettings) -> tuple[Any, Any]:
    """The library's answer to a request, and its protocol for the frames after it."""
    from websockets.datastructures import Headers
    from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
    from websockets.http11 import Request
    from websockets.protocol import OPEN, SERVER, Protocol
    from websockets.server import ServerProtocol

    # As the library's own servers have it: 4 kB windows keep a client's memory low.
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5})
    judge = ServerProtocol(extensions=[deflate] if options.deflate else None)
    headers = Headers()
    for name, value in scope["headers"]:
        headers[name.decode("ascii")] = value.decode("latin-1")
    response = judge.accept(Request(scope["path"], headers))
    protocol = Protocol(SERVER, state=OPEN, max_size=options.max_size)
    protocol.extensions = judge.extensions
    return protocol, response
