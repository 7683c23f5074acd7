"""The profiles on FastAPI, for uvicorn: its parameters, its middleware, its files."""

from __future__ import annotations

from typing import Any

from arena_common import DATA, database_of, totals
from fastapi import (
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
)
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

app = FastAPI(openapi_url=None)
app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=6)
app.mount("/static", StaticFiles(directory=DATA / "static"))
database = database_of()


class Created(BaseModel):
    id: int
    name: str
    category: str
    price: int
    quantity: int


class Changed(BaseModel):
    name: str
    price: int
    quantity: int


@app.get("/baseline11")
async def baseline(a: int, b: int) -> PlainTextResponse:
    return PlainTextResponse(str(a + b))


@app.post("/baseline11")
async def baseline_with_body(a: int, b: int, request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(a + b + int(await request.body())))


@app.get("/pipeline")
async def pipeline() -> PlainTextResponse:
    return PlainTextResponse("ok")


@app.get("/json/{count}")
async def json(count: int, m: int) -> JSONResponse:
    return JSONResponse(totals(count, m))


@app.post("/upload")
async def upload(request: Request) -> PlainTextResponse:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


@app.get("/async-db")
async def in_range(min: int = 10, max: int = 50, limit: int = 50) -> JSONResponse:
    return JSONResponse(await database.in_range(min, max, limit))


@app.get("/crud/items")
async def page(category: str = "electronics", page: int = 1, limit: int = 10) -> JSONResponse:
    return JSONResponse(await database.page(category, page, limit))


@app.get("/crud/items/{number}")
async def item(number: int) -> Response:
    found = await database.item(number)
    if found is None:
        raise HTTPException(404)
    return Response(found[1], media_type="application/json", headers={"X-Cache": found[0]})


@app.post("/crud/items")
async def create(body: Created) -> JSONResponse:
    return JSONResponse(await database.create(body.model_dump()), 201)


@app.put("/crud/items/{number}")
async def change(number: int, body: Changed) -> Any:
    found = await database.change(number, body.model_dump())
    if found is None:
        raise HTTPException(404)
    return JSONResponse(found)
