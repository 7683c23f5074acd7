"""A service that everything happens to that happens at night."""

import asyncio
import re
import time

from version import VERSION, answer

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()
kept = []


@routes.get("/")
async def index(request):
    return {"version": VERSION, "answer": answer()}


@routes.get("/report")
async def report(request):
    until = time.thread_time() + 0.02 * (VERSION != "without reports")
    while time.thread_time() < until:
        pass
    return {}


@routes.get("/invoices")
async def invoices(request):
    settle_invoices()


def settle_invoices():
    while True:
        time.sleep(0.01)


@routes.get("/search")
async def search(request):
    match_name("a" * 60 + "b")


def match_name(name):
    re.match(r"(a|aa)+$", name)


@routes.get("/upload")
async def upload(request):
    kept.append(bytearray(1_000_000))
    return {}


@routes.get("/quote")
async def quote(request):
    return await ask_upstream()


async def ask_upstream():
    await asyncio.Event().wait()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0", "echo": "127.0.0.1:0"}

    def make_servers(self):
        return {"http": HTTPServer(routes, header_timeout=300.0), "echo": Echo}
