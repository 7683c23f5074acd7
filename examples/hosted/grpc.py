"""grpclib: any of its services; here the health check that it brings along."""

from grpclib.health.service import Health
from grpclib.server import Server

import apihour
from apihour_tcp import LibraryServer


class Container(apihour.Container):
    binds = {"grpc": "127.0.0.1:50051"}

    def make_servers(self):
        server = Server([Health()])

        async def start():
            await server.start("127.0.0.1", 0)
            return server

        return {"grpc": LibraryServer(start)}
