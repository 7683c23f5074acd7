"""websockets: its server opens its own port, and says goodbye by close()."""

import websockets

import apihour
from apihour_tcp import LibraryServer


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


class Container(apihour.Container):
    binds = {"ws": "127.0.0.1:8765"}

    def make_servers(self):
        return {"ws": LibraryServer(
            lambda: websockets.serve(echo), drain=lambda server: server.close())}
