"""What ``chaos.py`` serves: HTTP, TCP and UDP that say which process answered."""

import asyncio
import os

from release import RELEASE

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"pid": os.getpid(), "release": RELEASE}


@routes.get("/slow")
async def slow(request):
    await asyncio.sleep(0.05)
    return {"pid": os.getpid(), "release": RELEASE}


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0", "udp": "udp://127.0.0.1:0"}

    def make_servers(self):
        return {"http": HTTPServer(routes), "echo": Echo, "udp": Datagrams}
