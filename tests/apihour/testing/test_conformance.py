"""The suite for plugins' authors, on our own plugins; and that it finds what is wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import Any

import pytest
from apihour_mux import Mux
from apihour_proxy import Proxy
from apihour_wsgi import WSGIServer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from apihour.testing.conformance import Conformance
from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Routes
from apihour_tcp import LibraryServer, TCPServer

routes = Routes()


@routes.get("/")
async def index(request: Any) -> str:
    return "hello"


async def application(request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class OverHTTP(Conformance):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"hello"


class TestHTTP(OverHTTP):
    def make(self) -> Any:
        return HTTPServer(routes)


class TestASGI(OverHTTP):
    def make(self) -> Any:
        return ASGIServer(Starlette(routes=[Route("/", application)]))


class TestWSGI(OverHTTP):
    def make(self) -> Any:
        return WSGIServer(wsgi, threads=2)


class TestMux(OverHTTP):
    def make(self) -> Any:
        return Mux({"http": HTTPServer(routes), "default": Echo}, timeout=0.5)


class OverTCP(Conformance):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


class TestTCP(OverTCP):
    def make(self) -> Any:
        return TCPServer(Echo)


class TestLibrary(OverTCP):
    def make(self) -> Any:
        return LibraryServer(
            lambda: asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 1))


class Proxied(Proxy):
    """A proxy that has its upstream with it."""

    def __init__(self) -> None:
        self.path = f"apihour-{os.getpid()}-{id(self)}"
        self.echo: asyncio.Server | None = None
        super().__init__(f"unix:@{self.path}")

    async def start(self, context: Any = None) -> None:
        loop = asyncio.get_running_loop()
        self.echo = await loop.create_unix_server(Echo, f"\0{self.path}")
        await super().start(context)

    async def stop(self) -> None:
        await super().stop()
        if self.echo is not None:
            self.echo.close()


class TestProxy(OverTCP):
    def make(self) -> Any:
        return Proxied()


# -- and what is wrong is found


class Sound(TCPServer):
    pass


class Deaf(TCPServer):
    async def drain(self, deadline: float) -> None:
        await asyncio.sleep(3600)


class Sticky(TCPServer):
    async def stop(self) -> None:
        pass


class Shapeless:
    protocol = "x"


class Talkative(TCPServer):
    def statistics(self) -> Any:
        return {"open": {object()}}


class Forgetful(TCPServer):
    async def start(self, context: Any = None) -> None:
        await super().start(context)
        self.forever = asyncio.ensure_future(asyncio.sleep(3600))


def suite_of(server: type) -> Any:
    class Suite(OverTCP):
        def make(self) -> Any:
            return server() if server is Shapeless else server(Echo)

    return Suite()


@pytest.mark.parametrize(("server", "test"), [
    (Deaf, "test_drain_returns_at_its_deadline"),
    (Sticky, "test_stop_ends_what_is_left_and_may_come_before_a_start"),
    (Shapeless, "test_it_has_the_shape_of_a_server"),
    (Talkative, "test_two_clients_talk_at_once_and_it_counts_them"),
    (Forgetful, "test_two_clients_talk_at_once_and_it_counts_them"),
])
def test_it_finds_what_is_wrong(server: type, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apihour.testing.conformance.PATIENCE", 2.0)
    getattr(suite_of(Sound), test)("asyncio")
    with pytest.raises((AssertionError, TypeError, TimeoutError)):
        getattr(suite_of(server), test)("asyncio")
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: complaints.append(str(told.exc_value)))
    gc.collect()
    assert not complaints, "of what was left to a loop that is closed"
