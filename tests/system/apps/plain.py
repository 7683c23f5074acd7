"""One echo server whose only bind the command line names, stream or datagram."""

import asyncio

import apihour


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
    def make_servers(self):
        return {"echo": Echo}


class Udp(apihour.Container):
    def make_servers(self):
        return {"udp": Datagrams}
