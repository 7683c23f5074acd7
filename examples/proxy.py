"""A port that passes connections on to other servers, and finds them by DNS.

    apihour proxy:Container

The upstreams here are two protocols of the same container, so that it runs by itself; a database
behind a name is ``Proxy("db.internal:5432")``, a service ``Proxy("srv:_db._tcp.internal")``.

    nc 127.0.0.1 9000        # one of the two says its name, the next time the other
"""

import asyncio

from apihour_proxy import Proxy

import apihour


class Echo(asyncio.Protocol):
    def __init__(self, name):
        self.name = name

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.name + b"\n")

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"front": "127.0.0.1:9000", "one": "127.0.0.1:9001", "two": "127.0.0.1:9002"}

    def make_servers(self):
        return {
            "front": Proxy(["127.0.0.1:9001", "127.0.0.1:9002"]),
            "one": lambda: Echo(b"one"),
            "two": lambda: Echo(b"two"),
        }
