"""Helpers of the HTTP tests: a served server on a free port, and raw HTTP by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from apihour_http import HTTPServer


class Served:
    """A running server and its address."""

    def __init__(self, server: HTTPServer, listener: asyncio.Server) -> None:
        self.server = server
        self.listener = listener
        self.port: int = listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22))

    async def ask(self, data: bytes, timeout: float = 5.0) -> bytes:
        """Send `data`, return everything until the server closes."""
        peer = await self.connect()
        try:
            return await peer.ask(data, timeout)
        finally:
            peer.close()


class Answer(SimpleNamespace):
    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, timeout: float = 5.0, head: bool = False) -> Answer:
        """Read one answer."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), timeout)
        lines = raw.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = b""
        if headers.get("transfer-encoding") == "chunked" and not head:
            while True:
                size = int(await asyncio.wait_for(self.reader.readline(), timeout), 16)
                body += (await self.reader.readexactly(size + 2))[:-2]
                if not size:
                    break
        elif not head:
            body = await asyncio.wait_for(
                self.reader.readexactly(int(headers.get("content-length", 0))), timeout)
        return Answer(status=int(lines[0].split()[1]), headers=headers, body=body)

    async def ask(self, data: bytes, timeout: float = 5.0) -> bytes:
        self.writer.write(data)
        try:
            return await asyncio.wait_for(self.reader.read(), timeout)
        except ConnectionResetError:
            return b""

    async def rest(self, timeout: float = 5.0) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), timeout)

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def serving(
    routes: Any = None, app: Any = None, context: Any = None, **options: Any
) -> AsyncIterator[Served]:
    """Serve on a free port; everything is closed at the end."""
    server = HTTPServer(routes, app, **options)
    await server.start(context)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield Served(server, listener)
    finally:
        listener.close()
        await server.stop()


def context(**values: Any) -> Any:
    """What a host tells a server when it starts."""
    defaults: dict[str, Any] = {
        "name": "http", "container": None, "logger": logging.getLogger("test"),
        "keepalive": 5.0, "linger": 0.3, "graceful_timeout": 5.0, "access_log": None,
        "access_log_format": "", "debug": False, "options": {},
    }
    return SimpleNamespace(**(defaults | values))


async def wait_until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Return once `condition` holds; TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while True:
            if condition():
                return
            await asyncio.sleep(0.003)


def get(path: str = "/", *headers: str, version: str = "1.1") -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/{version}", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")
