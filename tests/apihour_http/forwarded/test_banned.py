"""A banned client behind a believed proxy: refused on every lane, its neighbours are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from apihour_http import HTTPServer, Request, Routes, WebSocket

from ..support import Peer, context, get, wait_until
from .test_lanes import OPEN, asgi, direct, hosted

BANNED, OTHER = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8"


class Book:
    """Bans as a host has them."""

    def __init__(self) -> None:
        self.watchers: list[Callable[[], None]] = []
        self.addresses: set[str] = set()
        self.refused = 0

    def __len__(self) -> int:
        return len(self.addresses)

    def refuses(self, peer: Any) -> bool:
        self.refused += peer[0] in self.addresses
        return peer[0] in self.addresses

    def hold(self, *addresses: str) -> None:
        self.addresses = set(addresses)
        for watcher in self.watchers:
            watcher()


class House:
    """A server in a host with bans; what connects comes from `source`."""

    def __init__(self, server: Any, source: str = "127.0.0.1") -> None:
        self.server, self.book, self.source = server, Book(), source
        self.http = getattr(server, "_http", server)

    async def __aenter__(self) -> House:
        OPEN["gate"] = asyncio.Event()
        await self.server.start(context(bans=self.book))

        def stream() -> Any:
            row = SimpleNamespace(requests=0, state="open", peer_address=(self.source, 5))
            return self.server.stream(row)

        self.listener = await asyncio.get_running_loop().create_server(stream, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.listener.close()
        await self.server.stop()
        assert not self.book.watchers

    async def connect(self) -> Peer:
        address = self.listener.sockets[0].getsockname()
        return Peer(*await asyncio.open_connection(*address))


@pytest.mark.parametrize("make", [direct, hosted, asgi])
async def test_it_is_refused_and_its_neighbours_are_not(make: Any) -> None:
    async with House(make()) as house:
        known, late = await house.connect(), await house.connect()
        for line in (BANNED, OTHER, BANNED, BANNED):
            known.send(get("/", line))
            assert (await known.answer()).status == 200
        house.book.hold("203.0.113.7")
        late.send(get("/", OTHER))
        assert (await late.answer()).status == 200
        new = await house.connect()
        for peer in (known, late, new):  # with the head it sent before, behind another, new
            peer.send(get("/", BANNED))
            answer = await peer.answer()
            assert (answer.status, answer.headers["connection"]) == (403, "close")
            assert await peer.rest() == b""
        assert house.book.refused == 3
        peer = await house.connect()
        for line in (OTHER, OTHER, "X-Forwarded-For: 203.0.113.7, 203.0.113.8", "X: y"):
            peer.send(get("/", line))
            assert (await peer.answer()).status == 200
        house.book.hold()
        for line in (BANNED, BANNED):
            peer.send(get("/", line))
            assert (await peer.answer()).status == 200
        for one in (known, late, new, peer):
            one.close()


@pytest.mark.parametrize("make", [direct, hosted, asgi])
async def test_a_stranger_says_what_it_likes(make: Any) -> None:
    async with House(make(), "198.51.100.1") as house:
        house.book.hold("203.0.113.7")
        peer = await house.connect()
        peer.send(get("/", BANNED))
        assert (await peer.answer()).status == 200 and house.book.refused == 0
        peer.close()


async def test_bodies_websockets_and_what_has_no_route() -> None:
    routes = Routes()
    called: list[str] = []

    @routes.put("/up", stream_body=True)
    async def up(request: Request) -> None:
        called.append("up")

    @routes.websocket("/ws")
    async def ws(request: Request, websocket: WebSocket) -> None:
        called.append("ws")

    async with House(HTTPServer(routes)) as house:
        house.book.hold("203.0.113.7")
        for data in (
            f"PUT /up HTTP/1.1\r\nHost: x\r\n{BANNED}\r\nContent-Length: 9\r\n\r\nabc".encode(),
            get("/ws", BANNED, "Connection: upgrade", "Upgrade: websocket",
                "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
            get("/nowhere", BANNED), get("/up", BANNED),
        ):
            peer = await house.connect()
            peer.send(data)
            assert (await peer.answer()).status == 403
            peer.close()
        assert not called
        peer = await house.connect()  # an answer that is due comes before
        peer.send(get("/nowhere", OTHER) + get("/nowhere", BANNED) + get("/nowhere", OTHER))
        assert [(await peer.answer()).status for _ in range(2)] == [404, 403]
        assert await peer.rest() == b""
        peer.close()


async def test_without_a_ban_connections_are_as_without_bans() -> None:
    async with House(direct()) as house:
        service = house.http.service
        peer = await house.connect()
        await wait_until(lambda: house.http.connections)
        [lane] = house.http.connections
        assert lane.intake.service is service and lane.plan is service.plan
        house.book.hold("203.0.113.7")
        assert lane.intake.service is not service
        house.book.hold()
        assert lane.intake.service is service and lane.plan is service.plan
        peer.close()
    stranger = House(direct(), "198.51.100.1")
    async with stranger:
        stranger.book.hold("203.0.113.7")
        peer = await stranger.connect()
        await wait_until(lambda: stranger.http.connections)
        [lane] = stranger.http.connections
        assert lane.intake.service is stranger.http.service
        peer.close()
