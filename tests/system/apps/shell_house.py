"""An application to look into: it can get stuck in every way, has secrets, and own commands."""

import asyncio
import dataclasses
import hashlib
import logging
import os
import re
import time

import apihour
from apihour.ops.model import CommandFailed, Role
from apihour_http import HTTPServer, Routes

routes = Routes()
log = logging.getLogger("shell_house")


@routes.get("/")
async def index(request):
    return {"pid": os.getpid()}


@routes.get("/stick/{how}")
async def stick(request):
    WAYS[request.match_info["how"]]()
    return {"pid": os.getpid()}


@routes.get("/log/{count}")
async def write_log(request):
    for number in range(int(request.match_info["count"])):
        log.warning("line %d \x1b[31mred\x1b[0m\x07", number)
    return {"pid": os.getpid()}


@routes.get("/wait/{seconds}")
async def wait(request):
    await asyncio.sleep(float(request.match_info["seconds"]))
    return {"pid": os.getpid()}


@routes.get("/ops/{command}")
async def operate(request):
    query = request.query
    words = [query["name"]] if "name" in query else []
    run = getattr(request.container.ops, request.match_info["command"])
    try:
        return await run(*words, filter=query.get("filter"))
    except CommandFailed as error:
        return {"error": str(error).partition(";")[0]}


def sleep():
    time.sleep(300)


def release():
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 10**9)


def regex():
    re.match(r"(a|aa)+$", "a" * 60 + "b")


def integer():
    pow(3, 40_000_000)


def short():
    time.sleep(0.3)


def spin():
    while True:
        pass


WAYS = {"sleep": sleep, "release": release, "regex": regex, "integer": integer, "spin": spin,
        "short": short}


@dataclasses.dataclass(frozen=True)
class Greeting:
    """One row of ``greet``."""

    text: str
    pid: int


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0"}

    async def start(self):
        self.family = asyncio.create_task(self.parent(), name="the-parent")

    async def cleanup(self):
        self.family.cancel()

    async def parent(self):
        await asyncio.gather(asyncio.create_task(self.child(), name="the-child"))

    async def child(self):
        await asyncio.Event().wait()

    def make_servers(self):
        return {"http": HTTPServer(routes), "echo": Echo}

    @apihour.command(role=Role.OPERATOR, scope="one")
    async def greet(self, name: str, *, loud: bool = False) -> list[Greeting]:
        """Greet somebody.

        Args:
            name: whom
        """
        text = f"hello {name}"
        return [Greeting(text.upper() if loud else text, os.getpid())]

    @apihour.command(role="observer", scope="all", deadline=1.8)
    async def pids(self) -> list[Greeting]:
        """Every worker's pid."""
        return [Greeting("here", os.getpid())]

    @apihour.command(role="observer", scope="first", deadline=1.8)
    async def quickest(self) -> list[Greeting]:
        """The worker that answers first."""
        return [Greeting("first", os.getpid())]
