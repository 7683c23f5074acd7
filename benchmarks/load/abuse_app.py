"""A server of each stream protocol, for those who would take more than their share."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import asyncssh

import apihour
from apihour_http import HTTPServer, Request, Routes
from apihour_ssh import Limits, SSHServer

routes = Routes()


@routes.get("/")
def index(request: Request) -> str:
    return "here"


@routes.post("/")
async def upload(request: Request) -> str:
    return str(len(await request.read()))


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(asyncio.Protocol):
    """Takes what comes, and says nothing."""


async def idle(process: Any) -> None:
    """A shell whose user is away."""
    await process.stdin.read()


class Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class Container(apihour.Container):
    binds = dict.fromkeys(("http", "tcp", "sink", "tls", "ssh", "bare"), "127.0.0.1:0")

    def make_servers(self) -> dict[str, Any]:
        return {
            "http": HTTPServer(routes), "tcp": Echo, "sink": Sink, "tls": HTTPServer(routes),
            "ssh": SSHServer(
                server_factory=Anybody, process_factory=idle,
                host_keys=os.environ["ABUSE_KEY"],
                limits=Limits.none()),  # one machine plays all who have logged in
            "bare": SSHServer(server_factory=Anybody, process_factory=lambda process: None,
                              host_keys=os.environ["ABUSE_KEY"]),
        }
