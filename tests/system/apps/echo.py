"""Raw TCP, as plain as it gets: whatever comes goes back."""

import asyncio

import apihour


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}

    def make_servers(self):
        return {"echo": Echo}
