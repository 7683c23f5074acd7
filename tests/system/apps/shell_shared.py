"""One counter, one list and one watch for all workers."""

import asyncio
import os

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/")
async def index(request):
    return {"pid": os.getpid()}


@routes.get("/incr")
async def incr(request):
    return {"count": await request.container.shared.incr("count"), "pid": os.getpid()}


@routes.get("/put/{text}")
async def put(request):
    query = request.query
    revision = await request.container.shared.put(
        "text", request.match_info["text"].encode(),
        ttl=float(query["ttl"]) if "ttl" in query else None)
    return {"revision": revision, "pid": os.getpid()}


@routes.get("/get")
async def get(request):
    found = await request.container.shared.get("text")
    return {"text": found.value.decode() if found else None, "pid": os.getpid(),
            "revision": found.revision if found else 0}


@routes.get("/seen")
async def seen(request):
    return {"seen": request.container.seen, "pid": os.getpid()}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    async def start(self):
        self.seen = []
        self.watching = asyncio.create_task(self.watch())

    async def watch(self):
        async for change in self.shared.watch("text"):
            self.seen.append(change.value.decode() if change.value is not None else None)

    async def cleanup(self):
        self.watching.cancel()

    def make_servers(self):
        return {"http": HTTPServer(routes)}
