"""Servers of other libraries, hosted by apihour or run as each library's own documentation says.

``python hosted_app.py NAME PORT`` is the second way, on the same event loop; with a third word,
``handed``, the least that a host can do: accept, and hand each descriptor to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import aiosmtpd.controller
import aiosmtpd.handlers
import aiosmtpd.smtp
import asyncssh
import telnetlib3
import websockets

import apihour
from apihour_tcp import LibraryServer, TCPServer


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def shell(reader: Any, writer: Any) -> None:
    writer.write("name? ")
    while (name := (await reader.readline()).strip()) not in ("", "bye"):
        writer.write(f"Hello, {name}!\r\n")
    writer.close()


class Guest(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


def smtp() -> Any:
    return aiosmtpd.smtp.SMTP(aiosmtpd.handlers.Sink(), hostname="mail.example")


def sftp(port: int = 0) -> Any:
    key = asyncssh.generate_private_key("ssh-ed25519")
    return asyncssh.listen("127.0.0.1", port, server_factory=Guest, server_host_keys=[key],
                           sftp_factory=True)


def telnet(port: int = 0) -> Any:
    return telnetlib3.create_server(host="127.0.0.1", port=port, shell=shell, connect_maxwait=0.01)


def hosted(name: str) -> Any:
    servers: dict[str, Any] = {
        "websockets": LibraryServer(lambda: websockets.serve(echo)), "aiosmtpd": TCPServer(smtp),
        "telnetlib3": LibraryServer(telnet), "asyncssh": LibraryServer(sftp)}
    return servers[name]


class Container(apihour.Container):
    binds = {os.environ.get("HOSTED", "websockets"): "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        return {name: hosted(name) for name in self.binds}


class Descriptor:
    """What uvloop asks of a socket; it tells here when it has closed it."""

    family, type = socket.AF_INET, socket.SOCK_STREAM

    def __init__(self, number: int) -> None:
        self.number = number
        self.connecting: Any = None
        self.waiting: Any = None

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        with contextlib.suppress(StopIteration):
            self.connecting.send(None)
        self.connecting = None


async def hand(name: str, port: int) -> None:
    """No stage, no table and no share: what handing a descriptor to uvloop costs by itself."""
    server, loop = hosted(name), asyncio.get_running_loop()
    await server.start()
    row = SimpleNamespace(table=[], server=name, peer="")
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    sock.setblocking(False)

    def readable() -> None:
        made = Descriptor(sock._accept()[0])  # type: ignore[attr-defined]
        made.connecting = loop.connect_accepted_socket(lambda: server.stream(row), made)
        made.waiting = made.connecting.send(None)

    loop.add_reader(sock.fileno(), readable)
    await loop.create_future()


async def run(name: str, port: int) -> None:
    """The library's own way."""
    print(f"port {port}", flush=True)
    if name == "websockets":
        async with websockets.serve(echo, "127.0.0.1", port) as server:
            await server.serve_forever()
    elif name == "aiosmtpd":
        controller = aiosmtpd.controller.UnthreadedController(
            aiosmtpd.handlers.Sink(), "127.0.0.1", port, loop=asyncio.get_running_loop(),
            server_hostname="mail.example")
        server = await controller._create_server()  # what begin() runs, which wants no running loop
        await server.serve_forever()
    else:
        made = await {"telnetlib3": telnet, "asyncssh": sftp}[name](port)
        await made.wait_closed()


if __name__ == "__main__":
    import uvloop

    uvloop.run((hand if "handed" in sys.argv else run)(sys.argv[1], int(sys.argv[2])))
