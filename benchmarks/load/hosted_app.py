"""Servers of other libraries, hosted by apihour or run as each library's own documentation says.

``python hosted_app.py NAME`` is the second way, on the same event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import aiosmtpd.controller
import aiosmtpd.handlers
import aiosmtpd.smtp
import asyncssh
import telnetlib3
import websockets

import apihour
from apihour_tcp import LibraryServer


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


async def shell(reader: Any, writer: Any) -> None:
    writer.write("name? ")
    name = await reader.readline()
    writer.write(f"Hello, {name.strip()}!\r\n")
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


class Container(apihour.Container):
    binds = {os.environ.get("HOSTED", "websockets"): "127.0.0.1:0"}

    def make_servers(self) -> dict[str, Any]:
        servers: dict[str, Any] = {
            "websockets": LibraryServer(lambda: websockets.serve(echo)), "aiosmtpd": smtp,
            "telnetlib3": LibraryServer(telnet), "asyncssh": LibraryServer(sftp)}
        return {name: servers[name] for name in self.binds}


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

    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
