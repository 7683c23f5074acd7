"""Four protocols on one bind, each of which says who it is; and one of them alone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from apihour_mux import Mux, MuxEntry

import apihour
from apihour_http import HTTPServer, Request, Routes

routes = Routes()


@routes.get("/{number:int}")
def number(request: Request) -> str:
    return f"http {request.match_info['number']}"


class Named(asyncio.Protocol):
    name = b"raw"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.name + b":" + data)


class SSH(Named):
    name = b"ssh"


class Own(Named):
    name = b"own"


def is_own(data: bytes) -> bool | None:
    if data.startswith(b"OWN "):
        return True
    return None if b"OWN ".startswith(data) else False


class Container(apihour.Container):
    binds = {"edge": "127.0.0.1:0", "raw": "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {"edge": Mux({"own": MuxEntry(is_own, Own), "http": HTTPServer(routes), "ssh": SSH,
                             "default": Named}), "raw": Named}
