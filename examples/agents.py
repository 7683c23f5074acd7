"""A page of JSON, and rows of PostgreSQL.

From ``examples/``, with a server of its own, or that of DATABASE_URL::

    python -m apihour.testing.with_postgres /tmp/agents apihour agents:Container
    curl 127.0.0.1:8000/index 127.0.0.1:8000/agents
    curl -d '{"name": "Ada"}' -H 'Content-Type: application/json' 127.0.0.1:8000/agents

Needs ``apihour[pg,validation]``.
"""

from typing import Annotated

import asyncpg
import msgspec

import apihour
from apihour.engines import Postgres, Resource, Transaction
from apihour_http import HTTPError, HTTPServer, Routes

TABLE = "CREATE TABLE IF NOT EXISTS agents (id serial PRIMARY KEY, name text UNIQUE NOT NULL)"
routes = Routes()


class Agent(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


@routes.get("/index")
async def index(request):
    return {"hello": "world"}


@routes.get("/agents")
async def agents(request, pg: Annotated[asyncpg.Connection, Resource()]):
    return [dict(row) for row in await pg.fetch("SELECT id, name FROM agents ORDER BY id")]


@routes.post("/agents", status=201)
async def add(request, agent: Agent, pg: Annotated[asyncpg.Connection, Transaction()]):
    number = await pg.fetchval(
        "INSERT INTO agents (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id", agent.name)
    if number is None:
        raise HTTPError(409, f"there is an agent {agent.name!r}")
    return {"id": number, "name": agent.name}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8000"}

    def make_engines(self):
        return {"pg": Postgres("env:DATABASE_URL", max=20, health=True)}

    async def start(self):
        async with self.engines["pg"].transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(1)")  # one worker makes it
            await connection.execute(TABLE)

    def make_servers(self):
        return {"http": HTTPServer(routes)}
