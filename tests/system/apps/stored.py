"""A container with PostgreSQL: what it counts is there, in transactions."""

import asyncio
import os

import apihour
from apihour.engines import Postgres
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/add")
async def add(request):
    async with request.container.engines["pg"].transaction() as connection:
        await connection.execute("INSERT INTO hits VALUES (DEFAULT)")
        await connection.execute("SELECT pg_sleep($1)", float(request.query.get("for", "0")))
    return {"pid": os.getpid()}


@routes.get("/count")
async def count(request):
    async with request.container.engines["pg"].connection() as connection:
        return {"count": await connection.fetchval("SELECT count(*) FROM hits")}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_engines(self):
        return {"pg": Postgres("env:DATABASE_URL", max=int(os.environ.get("POOL", "6")),
                               health=True, at_start=os.environ.get("AT_START", "fail"),
                               start_timeout=float(os.environ.get("START_TIMEOUT", "20")))}

    async def start(self):
        async with self.engines["pg"].connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1

    def make_servers(self):
        return {"http": HTTPServer(routes)}

    async def cleanup(self):
        if not self.engines["pg"].up:
            return
        async with asyncio.timeout(10), self.engines["pg"].connection() as connection:
            await connection.execute("SELECT 1")
