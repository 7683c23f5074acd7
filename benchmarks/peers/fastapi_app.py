"""FastAPI, for uvicorn: its own validation and serialisation, by pydantic."""

from __future__ import annotations

from common import LARGE, MESSAGE, RESOURCES
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

app = FastAPI(openapi_url=None)


class Message(BaseModel):
    message: str


class Welcome(BaseModel):
    name: str
    age: int
    tags: int


class Item(BaseModel):
    id: int
    item: str


class User(BaseModel):
    name: str
    email: str
    age: int
    tags: list[str]


@app.get("/json")
async def hello() -> Message:
    return Message(**MESSAGE)


@app.get("/large", response_class=PlainTextResponse)
async def large() -> PlainTextResponse:
    return PlainTextResponse(LARGE)


@app.post("/users")
async def create(user: User) -> Welcome:
    return Welcome(name=user.name, age=user.age, tags=len(user.tags))


async def find(id: int, item: str) -> Item:
    return Item(id=id, item=item)


for name in RESOURCES:
    app.get(f"/{name}/{{id}}/items/{{item}}")(find)
