"""API-Hour's benchmark, on apihour: an engine, and an endpoint that asks for its connection.

No request sets anything in its session, so nothing is undone behind it (``reset=False``): as with
psycopg's pool, and as with a connection for each request. JSON is msgspec's.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from agents_common import HELLO, POOL, QUERY

import apihour
from apihour.engines import Postgres, Resource
from apihour_http import HTTPServer, Request, Routes, RowSet

routes = Routes()


@routes.get("/index")
def index(request: Request) -> Any:
    return HELLO


@routes.get("/agents")
async def agents(request: Request, pg: Annotated[Any, Resource()]) -> Any:
    return RowSet(await pg.fetch(QUERY))


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_engines(self) -> dict[str, Any]:
        return {"pg": Postgres("env:DATABASE_URL", max=POOL, reset=False)}

    def make_servers(self) -> dict[str, Any]:
        return {"http": HTTPServer(routes, dumps=msgspec.json.encode)}
