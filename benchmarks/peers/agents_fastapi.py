"""API-Hour's benchmark, on FastAPI with asyncpg, for uvicorn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from agents_common import HELLO, POOL, QUERY, URL
from fastapi import FastAPI
from fastapi.responses import JSONResponse


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(URL, min_size=POOL, max_size=POOL) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan, openapi_url=None)


# A response that is made at once: pydantic does not look at each of its rows.
@app.get("/index")
async def index() -> JSONResponse:
    return JSONResponse(HELLO)


@app.get("/agents")
async def agents() -> JSONResponse:
    async with app.state.pool.acquire() as connection:
        rows: list[Any] = await connection.fetch(QUERY)
    return JSONResponse([dict(row) for row in rows])
