"""API-Hour's benchmark, on apihour: an engine, and an endpoint that asks for its connection."""

from __future__ import annotations

from typing import Annotated, Any

from agents_common import HELLO, POOL, QUERY

import apihour
from apihour.engines import Postgres, Resource
from apihour_http import HTTPServer, Request, Routes

routes = Routes()


@routes.get("/index")
def index(request: Request) -> Any:
    return HELLO


@routes.get("/agents")
async def agents(request: Request, pg: Annotated[Any, Resource()]) -> Any:
    return [dict(row) for row in await pg.fetch(QUERY)]


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_engines(self) -> dict[str, Any]:
        return {"pg": Postgres("env:DATABASE_URL", max=POOL)}

    def make_servers(self) -> dict[str, Any]:
        return {"http": HTTPServer(routes)}
