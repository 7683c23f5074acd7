"""Clients over real sockets that leave whenever they like, and servers that must not mind.

    tests/apihour_http/speed/sanitized -m tests.apihour_http.speed.rude [--seconds 60] [--seed 1]

Many requests in one write, cut anywhere, frames of WebSockets, files that change as they are read,
endpoints that fail and close. What the servers log beyond what these endpoints raise is printed, so
is what of the connections stays; either ends it with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Request, Response, Routes

PATIENCE = (0.001, 0.02, 0.1)  # seconds for which a client reads
SIZES = {"e.txt": 0, "a.txt": 5, "b.js": 3000, "c.bin": 70_000, "d.bin": 400_000}
PATHS = ["/j", "/t", "/x", "/big", "/none", "/later/1", "/later/8", "/q?a=2&b=%41",
         "/q?b=" + "+" * 30,
         *(f"/s/{name}" for name in (*SIZES, "", "sub", "sub/", "link", "..%2fx", "none", "%00",
                                     "a.txt/b", "x" * 300))]
RARE = ["/close", "/abort"]
FIELDS = ["", "", "Accept-Encoding: gzip, br\r\n", "Range: bytes=1-5\r\n", 'If-None-Match: "x"\r\n',
          "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "Upgrade: h2c\r\n"]
UPGRADE = (b"GET /e HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def endpoints(root: Path) -> Routes:
    routes = Routes()
    routes.static("/s", root)
    routes.get("/j")(lambda request: {"a": [1, 2, "é" * 9]})
    routes.get("/t")(lambda request: "text" * 400)
    routes.get("/x")(lambda request: 1 / 0)
    routes.get("/big")(lambda request: Response(body=b"b" * 300_000))
    routes.post("/echo")(lambda request: Response(body=request.body))

    @routes.get("/later/{n:int}")
    async def later(request: Request, n: int) -> Any:
        await asyncio.sleep(0 if n % 2 else 0.001)
        return [{"n": n}] * n

    @routes.get("/q", compress=True)
    def query(request: Request, a: int = 1, b: str = "") -> Any:
        return {"a": a, "b": b, "rows": ["row"] * 400}

    @routes.get("/close")
    def close(request: Request) -> Any:
        request.lane.transport.close()
        return "closed"

    @routes.get("/abort")
    def abort(request: Request) -> Any:
        request.lane.transport.abort()
        return {"aborted": True}

    return routes


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application for both of its protocols."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            kind = "text" if message.get("text") is not None else "bytes"
            await send({"type": "websocket.send", kind: message[kind]})
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def request(draw: random.Random) -> bytes:
    if draw.random() < 0.1:
        size = draw.choice((0, 3, 70_000))
        return b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size + b"p" * size
    path = draw.choice(RARE if draw.random() < 0.02 else PATHS)
    method = draw.choice(["GET"] * 8 + ["HEAD", "OPTIONS", "DELETE"])
    last = "Connection: close\r\n" if draw.random() < 0.02 else ""
    return f"{method} {path} HTTP/1.1\r\nHost: t\r\n{draw.choice(FIELDS)}{last}\r\n".encode()


def frame(draw: random.Random) -> bytes:
    """One of a client's (RFC 6455 5.2), now and then one that is none."""
    code = draw.choice((1, 2, 9, 0, 8, 3)) if draw.random() < 0.2 else draw.choice((1, 2))
    size = draw.choice((0, 1, 5, 125, 126, 127, 300, 65535, 65536, 90_000))
    masked = 0x80 if draw.random() > 0.02 else 0
    bits = (0x80 if draw.random() > 0.1 else 0) | (0x40 if draw.random() < 0.03 else 0)
    head = bytes([bits | code])
    if size < 126:
        head += bytes([masked | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    return head + (bytes(4) if masked else b"") + b"a" * size


class Rude:
    """Clients of one kind: `upgrade` is sent first, `part` makes what follows."""

    def __init__(self, port: int, seed: int, ends: float, upgrade: bytes, part: Any) -> None:
        self._port, self._ends, self._upgrade, self._part = port, ends, upgrade, part
        self._draw = random.Random(seed)

    async def run(self) -> None:
        while time.monotonic() < self._ends:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._one()

    async def _one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if self._upgrade:
                writer.write(self._upgrade)
                async with asyncio.timeout(5):
                    await reader.readuntil(b"\r\n\r\n")
            for _ in range(self._draw.randrange(1, 7)):
                if not await self._write(reader, writer):
                    break
        finally:
            writer.transport.abort()

    async def _write(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One write, and some reading; False when it leaves."""
        draw = self._draw
        data = b"".join(self._part(draw) for _ in range(draw.choice((1, 2, 5, 16, 31, 40))))
        writer.write(data if draw.random() > 0.2 else data[:draw.randrange(len(data)) + 1])
        way = draw.randrange(5)
        if way == 0:
            return False
        if way == 1 and not writer.transport.is_closing():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(draw.choice(PATIENCE)):
                while await reader.read(draw.choice((1, 100, 65536))):
                    pass
        return way > 2


async def change(root: Path, draw: random.Random, ends: float) -> None:
    """Files grow, shrink, go and come."""
    while time.monotonic() < ends:
        await asyncio.sleep(0.003)
        name = draw.choice(list(SIZES))
        if draw.randrange(3):
            (root / name).write_bytes(b"z" * draw.choice((0, 1, 100, SIZES[name], 70_000)))
        else:
            (root / name).unlink(missing_ok=True)


class Log:
    """What the servers fail with, beyond what the endpoints raise and files do that change."""

    def __init__(self) -> None:
        self.odd: list[str] = []

    def tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, said = context.get("exception"), context["message"]
        if not isinstance(error, ZeroDivisionError) and "static failed on" not in said:
            loop.default_exception_handler(context)
            self.odd.append(f"{said}: {error!r}")


async def rude(seconds: float, seed: int, root: Path) -> list[str]:
    """What went wrong in that time."""
    for name, size in SIZES.items():
        (root / name).write_bytes(os.urandom(size))
    (root / "sub").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    loop, log, ends = asyncio.get_running_loop(), Log(), time.monotonic() + seconds
    loop.set_exception_handler(log.tell)
    servers = [HTTPServer(endpoints(root), max_body=1 << 20), ASGIServer(echo, lifespan="off")]
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
            listening = await loop.create_server(server.stream, "127.0.0.1", 0)
            stack.callback(listening.close)
            ports.append(listening.sockets[0].getsockname()[1])
        kinds = [(ports[0], b"", request)] * 8 + [(ports[1], b"", request)] * 2 + [
            (ports[1], UPGRADE, frame)] * 5
        await asyncio.gather(
            change(root, random.Random(seed), ends),
            *(Rude(port, seed + place, ends, upgrade, part).run()
              for place, (port, upgrade, part) in enumerate(kinds)))
        left = await _left(servers)
    return log.odd + left


async def _left(servers: list[Any]) -> list[str]:
    """Connections that do not end, though all clients are gone."""
    ends = time.monotonic() + 30
    while any(server.statistics()["connections"] for server in servers):
        if time.monotonic() > ends:
            return [f"{server.statistics()}" for server in servers]
        await asyncio.sleep(0.01)
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        odd = asyncio.run(rude(found.seconds, found.seed, Path(place)))
    print(*odd or ["nothing went wrong"], sep="\n")
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
