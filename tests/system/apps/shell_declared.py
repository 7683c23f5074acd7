"""The shell declared as a server among others, with limits of its own."""

import asyncio

import apihour
from apihour_ssh import Shell


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0", "ssh": "127.0.0.1:0"}

    def make_servers(self):
        limits = {"per_address": 6, "address_rate": 0, "rate": 0, "startups": 0}
        return {"echo": Echo, "ssh": Shell(login_timeout=1.0, idle_timeout=1.5, limits=limits)}


class InWorker(Container):
    """The same shell from the workers' own loops."""

    def make_servers(self):
        return {"echo": Echo, "ssh": Shell(in_worker=True)}


class Wrong(Container):
    """An option that there is not."""

    def make_servers(self):
        return {"echo": Echo, "ssh": Shell(idle_time=1.5)}
