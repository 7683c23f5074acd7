"""Servers that know their clients: a counter over UDP, and Socket.IO by polling."""

import asyncio
import os

import socketio

import apihour

sio = socketio.AsyncServer(async_mode="asgi")


@sio.event
async def whoami(sid, data):
    return [os.getpid(), data]


class Counter(asyncio.DatagramProtocol):
    """Answers with its process, how many that client has sent it, and whether it is to leave."""

    def __init__(self):
        self.seen, self.state = {}, "serving"

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.seen[address] = self.seen.get(address, 0) + 1
        self.transport.sendto(
            f"{os.getpid()} {self.seen[address]} {self.state} ".encode() + data, address)

    async def on_drain(self):
        self.state = "draining"
        await asyncio.sleep(0.4)


class Container(apihour.Container):
    binds = {"udp": "udp://127.0.0.1:0?sticky", "io": "127.0.0.1:0?sticky"}

    def make_servers(self):
        return {"udp": Counter, "io": socketio.ASGIApp(sio)}
