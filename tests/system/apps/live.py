"""Answers that last: streams, events, WebSockets, and work behind an answer."""

import asyncio
import os

import apihour
from apihour_http import SSE, Event, HTTPServer, Routes, Stream

routes = Routes()


@routes.middleware
async def stamp(request, call):
    answer = await call(request)
    answer.headers.append(("X-Worker", str(os.getpid())))
    return answer


@routes.get("/")
async def index(request):
    return {"pid": os.getpid()}


@routes.get("/counters")
async def counters(request):
    shared = request.container.shared
    return {name: await shared.incr(name, 0)
            for name in ("events-ended", "flood-ended", "after-begun", "after-done")}


async def ticks(shared):
    try:
        number = 0
        while True:
            yield Event({"pid": os.getpid()}, id=str(number))
            number += 1
            await asyncio.sleep(0.05)
    finally:
        await shared.incr("events-ended")


@routes.get("/events")
async def events(request):
    return SSE(ticks(request.container.shared), goodbye=Event("soon", event="restart", retry=50))


async def pieces(count):
    for number in range(count):
        yield f"{number}\n"
        await asyncio.sleep(0.02)


@routes.get("/download")
async def download(request):
    return Stream(pieces(int(request.query.get("count", "100"))))


async def endless(shared):
    try:
        while True:
            yield b"x" * 65536
    finally:
        await shared.incr("flood-ended")


@routes.get("/flood")
async def flood(request):
    return Stream(endless(request.container.shared))


async def work(shared):
    await shared.incr("after-begun")
    await asyncio.sleep(1)
    await shared.incr("after-done")


@routes.post("/after")
async def after(request):
    request.after(work(request.container.shared))
    return {"accepted": True}


@routes.websocket("/ws")
async def echo(request, websocket):
    await websocket.accept()
    async for message in websocket:
        await websocket.send(f"{os.getpid()} {message}")


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_servers(self):
        return {"http": HTTPServer(routes, write_timeout=1.0)}
