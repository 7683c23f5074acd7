"""Every case of ``rfc_cases`` on both lanes, with both parsers, whole and byte by byte."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from aiohttp import web

from apihour_http import Request, Routes

from .rfc_cases import CASES, Case
from .support import Served, get, serving
from .test_corpus import PATIENCE, judging, statuses

COMBINATIONS = pytest.mark.parametrize("lane, parser", [
    (lane, parser) for lane in ("direct", "app", "asgi") for parser in ("httptools", "aiohttp")])


async def judge(served: Served, case: Case, bytewise: bool = False) -> str:
    """What is wrong with the answer to a case, empty when nothing is."""
    peer = await served.connect()
    try:
        if bytewise:
            for place in range(len(case.data)):
                peer.send(case.data[place:place + 1])
                await asyncio.sleep(0)
        raw = await peer.ask(b"" if bytewise else case.data, PATIENCE)
    finally:
        peer.close()
    found = statuses(raw)
    if not found and case.allowed.isdisjoint({200}):
        return ""  # closed without a word
    if len(found) == case.answers and case.allowed.issuperset(found):
        return ""
    # A refusal may end it: what follows is not looked at.
    if found and len(found) <= case.answers and found[-1] >= 400 and (
            case.allowed.issuperset(found)):
        return ""
    return f"{case.name} ({case.section}): {found or raw[:60]}, expected {sorted(case.allowed)}"


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) and len(names) > 140


@COMBINATIONS
async def test_every_case(lane: str, parser: str, caplog: pytest.LogCaptureFixture) -> None:
    async with judging(lane, parser) as ask:
        wrong = [await ask(partial(judge, case=case)) for case in CASES]
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert "Traceback" not in caplog.text


@COMBINATIONS
async def test_cases_come_out_the_same_byte_by_byte(lane: str, parser: str) -> None:
    chosen = [case for case in CASES if len(case.data) < 120 and case.allowed != {413, 408}]
    slower = {"header_timeout": 1.0, "body_timeout": 1.0, "keepalive": 0.2}
    async with judging(lane, parser, **slower) as ask:
        faults = await asyncio.gather(
            *[ask(partial(judge, case=case, bytewise=True)) for case in chosen])
    assert not any(faults), "\n".join(filter(None, faults))


@pytest.mark.parametrize("lane", ["direct", "app"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_what_answers_must_say(lane: str, parser: str) -> None:
    """Date, Allow, lengths and connections of answers (RFC 9110 6.6.1, 15.5.6, 8.6; 9112 9.6)."""
    routes, app = Routes(), web.Application()
    routes.get("/")(lambda request: {"a": 1})
    routes.get("/none")(lambda request: None)

    @routes.post("/upload")
    async def upload(request: Request) -> int:
        return len(request.body)

    async def hosted(request: web.Request) -> web.Response:
        return web.json_response({"a": 1})

    async def hosted_none(request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def hosted_upload(request: web.Request) -> web.Response:
        return web.json_response(len(await request.read()))

    app.router.add_get("/", hosted)
    app.router.add_get("/none", hosted_none)
    app.router.add_post("/upload", hosted_upload)
    async with serving(*((routes,) if lane == "direct" else (None, app)), parser=parser) as served:
        peer = await served.connect()
        peer.send(get())
        answer = await peer.answer(PATIENCE)
        assert answer.headers["date"].endswith(" GMT") and "content-type" in answer.headers
        peer.send(get().replace(b"GET", b"HEAD"))
        headless = await peer.answer(PATIENCE, head=True)
        assert headless.headers["content-length"] == answer.headers["content-length"]
        peer.send(get("/none"))
        assert "content-length" not in (await peer.answer(PATIENCE)).headers
        peer.send(get("/upload"))
        refused = await peer.answer(PATIENCE)
        assert refused.status == 405 and "POST" in refused.headers["allow"]
        # No 100 for a client of HTTP/1.0, which does not know what that is (9110 15.2).
        peer.send(b"POST /upload HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n"
                  b"Expect: 100-continue\r\n\r\nab")
        assert (await peer.answer(PATIENCE)).body == b"2"
        peer.send(get("/", "Connection: close"))
        assert (await peer.answer(PATIENCE)).headers["connection"] == "close"
        assert await peer.rest(PATIENCE) == b""
        peer.close()
        raw = await served.ask(get(version="1.0"))
        assert b"\r\nConnection: close\r\n" in raw or lane == "app"
