"""asyncua: an OPC UA server with one variable."""

from asyncua import Server

import apihour
from apihour_tcp import LibraryServer


async def start():
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:4840")
    space = await server.register_namespace("http://example")
    await server.nodes.objects.add_variable(space, "answer", 42)
    await server.start()
    return server


class Container(apihour.Container):
    binds = {"opcua": "127.0.0.1:4840"}

    def make_servers(self):
        return {"opcua": LibraryServer(start)}
