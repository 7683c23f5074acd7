"""A connection that is lost while it is answered is freed at once, not by the collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apihour_http import SSE, Request, Routes, WebSocket
from apihour_http.connection.connection import HTTPConnection

from .support import get, serving, wait_until


async def events() -> AsyncIterator[str]:
    while True:
        yield "x"
        await asyncio.sleep(0.01)


def make() -> Routes:
    routes = Routes()
    routes.get("/inline")(lambda request: SSE(events()))

    @routes.get("/async")
    async def later(request: Request) -> SSE:
        return SSE(events())

    @routes.get("/slow")
    async def slow(request: Request) -> None:
        await asyncio.sleep(60)

    @routes.websocket("/ws")
    async def echo(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket:
            await websocket.send(message)

    @routes.websocket("/ws-quiet")
    async def quiet(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        await asyncio.sleep(60)

    @routes.websocket("/ws-short")
    async def short(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()

    return routes


UPGRADE = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
           "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")


@pytest.mark.parametrize("path", ["/inline", "/async", "/slow", "/ws", "/ws-quiet", "/ws-short"])
async def test_nothing_is_left_for_the_collector(path: str) -> None:
    async with serving(make(), cancel_on_disconnect=True) as served:
        def left() -> Any:
            return [one for one in gc.get_objects() if type(one) is HTTPConnection]

        gc.collect()
        assert left() == []
        gc.disable()
        try:
            peers = [await served.connect() for _ in range(5)]
            for peer in peers:
                peer.send(get(path, *(UPGRADE if path.startswith("/ws") else ())))
            if path == "/slow":
                await wait_until(lambda: served.server.statistics()["in_flight"] == 5)
            else:
                for peer in peers:
                    await peer.reader.readuntil(b"\r\n\r\n")
            for peer in peers:
                peer.writer.transport.abort()
            await wait_until(lambda: not served.server.connections)
            await wait_until(lambda: not left())
        finally:
            gc.enable()
