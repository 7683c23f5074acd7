"""What the compiled way must not keep from an application: what only its side reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apihour_asgi import ASGIServer
from apihour_http.testing import Client


async def application(scope: Any, receive: Any, send: Any) -> None:
    told = {"client": scope["client"], "scheme": scope["scheme"],
            "extensions": list(scope.get("extensions", {}))}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR"])
async def test_a_scope_has_what_a_proxy_says(name: str) -> None:
    server = ASGIServer(application, lifespan="off", forwarded_allow_ips="127.0.0.1")
    async with Client(server) as client:
        for headers in ({}, {"TE": "x"}):  # what the extension takes, and leaves
            answer = await client.get("/", headers={**headers, name: "203.0.113.7:81"})
            assert answer.json()["client"] == ["203.0.113.7", 81]
            answer = await client.get("/", headers={**headers, "X-Forwarded-Proto": "https"})
            assert answer.json()["scheme"] == "https"


async def test_trailers_can_be_taken_whoever_reads_the_head() -> None:
    async with Client(ASGIServer(application, lifespan="off")) as client:
        answer = await client.get("/", headers={"TE": "trailers"})
        assert answer.json()["extensions"] == ["http.response.trailers"]
        assert (await client.get("/")).json()["extensions"] == []
