"""The ancestor's ways of declaring servers, which keep working."""

import asyncio

from aiohttp import web

import apihour


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class ListContainer(apihour.Container):
    """A list, matched to the order of ``-b``; an async method; hooks that say their order."""

    @classmethod
    def make_event_loop(cls, config):
        print("make_event_loop", config.get("greeting"), flush=True)
        return asyncio.new_event_loop()

    async def pre_start(self):
        print("pre_start", self.config.get("greeting"), self.worker is not None, flush=True)

    async def make_servers(self):
        print("make_servers", flush=True)
        application = web.Application()
        application.router.add_get("/", self.index)
        return [application, Echo]

    async def start(self):
        self.engines["db"] = "open"
        print("start", sorted(self.servers), flush=True)

    async def index(self, request):
        return web.json_response(
            {"db": self.engines["db"], "greeting": self.config.get("greeting"),
             "loop": type(self.loop).__module__.split(".")[0]})

    async def shutdown(self):
        print("shutdown", flush=True)

    async def cleanup(self):
        print("cleanup", self.engines.pop("db"), flush=True)


class SocketsContainer(apihour.Container):
    """``async make_servers(sockets)`` returns {server: handler}."""

    async def make_servers(self, sockets):
        async def hello(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        servers = {}
        for sock in sockets:
            server = await asyncio.start_server(hello, sock=sock.sock, backlog=2048)
            servers[server] = self
        return servers

    async def finish_connections(self, timeout):
        print("finish_connections", flush=True)
