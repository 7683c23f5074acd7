"""Helpers of the ASGI tests: an application of a few lines, served and asked in bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct

from apihour_asgi import ASGIServer
from tests.apihour_http.support import Peer, get

__all__ = ["FINAL", "PATIENCE", "Peer", "Served", "body_of", "frame", "get", "http", "open_socket",
           "read_frame", "served"]

PATIENCE = 30.0
FINAL = 0x80


class Served:
    """A server and its address."""

    def __init__(self, server, port):
        self.server, self.port = server, port

    async def connect(self, limit=1 << 22):
        return Peer(*await asyncio.open_connection("127.0.0.1", self.port, limit=limit))

    async def ask(self, data):
        """Everything that comes back until the server closes."""
        peer = await self.connect()
        try:
            return await peer.ask(data, PATIENCE)
        finally:
            peer.close()

    @property
    def record(self):
        return self.server.statistics()


@contextlib.asynccontextmanager
async def served(app, **options):
    """Serve `app`; its lifespan is off unless asked for."""
    server = ASGIServer(app, **{"lifespan": "off", **options})
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    try:
        yield Served(server, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await server.stop()


def http(*messages):
    """An application that sends these messages, whatever is asked."""

    async def app(scope, receive, send):
        for message in messages:
            await send({**message, "type": "http.response." + message["type"]})

    return app


async def body_of(receive):
    """The whole body, as ``receive`` gives it."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        body, more = body + message["body"], message["more_body"]
    return body


HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


async def open_socket(served, path="/", *headers):
    """A WebSocket in bytes, after its handshake."""
    peer = await served.connect()
    peer.send(get(path, *HANDSHAKE, *headers))
    head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), PATIENCE)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return peer


def frame(first, payload=b""):
    """A client's frame (RFC 6455 5.2), masked with zeros."""
    size = len(payload)
    length = (struct.pack("!B", 0x80 | size) if size < 126 else
              struct.pack("!BH", 0x80 | 126, size) if size < 65536 else
              struct.pack("!BQ", 0x80 | 127, size))
    return bytes([first]) + length + bytes(4) + payload


async def read_frame(peer):
    """First byte and payload of a frame of the server."""
    head = await asyncio.wait_for(peer.reader.readexactly(2), PATIENCE)
    size = head[1]
    if size >= 126:
        size = int.from_bytes(await peer.reader.readexactly(2 if size == 126 else 8), "big")
    return head[0], await asyncio.wait_for(peer.reader.readexactly(size), PATIENCE)
