"""Every worker answers the bus: each, and one of all; and watches what all have together."""

import os

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"pid": os.getpid()}


@routes.get("/who")
async def who(request):
    found = await request.container.bus.gather("who", b"", deadline=0.3)
    return {"pids": sorted(int(message.data) for message in found)}


@routes.get("/one")
async def one(request):
    return {"pid": int((await request.container.bus.request("one", b"", timeout=20)).data)}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    async def start(self):
        every, group = self.bus.subscribe("who"), self.bus.subscribe("one", queue="ones")
        for messages in (every, group):
            await messages.__aenter__()
            self.jobs.start(self.answer(messages), "answers")
        self.jobs.start(self.look(self.shared.watch("shown/")), "shared")
        self.jobs.start(self.look(self.presence.watch("room.*")), "presence")

    async def look(self, changes):
        async for _ in changes:
            pass

    async def answer(self, messages):
        async for message in messages:
            await message.reply(b"%d" % os.getpid())

    def make_servers(self):
        return {"http": HTTPServer(routes)}
