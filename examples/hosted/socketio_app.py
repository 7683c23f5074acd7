"""python-socketio: an ASGI application.

Each worker has its own sessions, and each poll may be a connection of its own: ``?sticky`` has
those of one client meet one worker.
"""

import socketio

import apihour

sio = socketio.AsyncServer(async_mode="asgi")


@sio.event
async def echo(sid, data):
    return data


class Container(apihour.Container):
    binds = {"io": "127.0.0.1:8080?sticky"}

    def make_servers(self):
        return {"io": socketio.ASGIApp(sio)}
