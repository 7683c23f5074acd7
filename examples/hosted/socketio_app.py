"""python-socketio: an ASGI application. By WebSocket only: polls of one client would meet several
workers, and each has its own sessions.
"""

import socketio

import apihour

sio = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


@sio.event
async def echo(sid, data):
    return data


class Container(apihour.Container):
    binds = {"io": "127.0.0.1:8080"}

    def make_servers(self):
        return {"io": socketio.ASGIApp(sio)}
