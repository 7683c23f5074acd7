"""Objects that nobody serves, and what whoever gave them is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from apihour.errors import AdaptError
from apihour.plugins import Registry
from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Routes


class Echo(asyncio.Protocol):
    pass


class Needy(asyncio.Protocol):
    def __init__(self, container: Any) -> None: ...


class Clock(asyncio.DatagramProtocol):
    pass


@pytest.mark.parametrize(("obj", "kind", "told"), [
    (Echo(), "stream", "one instance of Echo, and each connection needs its own; expected the "
                       "class: Echo, or a function that makes one"),
    (Needy(None), "stream", "one instance of Needy, and each connection needs its own; expected"),
    (Clock(), "datagram", "one instance of Clock, and each"),
    (HTTPServer, "stream", "the class HTTPServer; expected an instance: HTTPServer(...)"),
    (ASGIServer, "stream", "the class ASGIServer; expected an instance: ASGIServer(...)"),
    (Routes, "stream", "the class Routes; expected an instance: Routes(...)"),
    (web.Application, "stream", "the class Application; expected an instance: Application(...)"),
    (Clock, "stream", "Clock on a stream bind; expected a bind like udp://HOST:PORT"),
    (Echo, "datagram", "Echo on a datagram bind; expected a bind without udp://"),
    (3, "stream", "no plugin accepts 3 on a stream bind; asked: asgi ("),
    (dict, "stream", "no plugin accepts <class 'dict'> on a stream bind; asked: asgi ("),
    (lambda x, y: None, "stream", "no plugin accepts <function"),
])
def test_what_is_said(obj: Any, kind: Any, told: str) -> None:
    with pytest.raises(AdaptError) as caught:
        Registry.from_entry_points().adapt(obj, kind, "web")
    assert str(caught.value).startswith(f"server 'web': {told}")
