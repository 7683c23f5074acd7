"""Multipart bodies: fields and files, within limits, whatever their clients send."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apihour_http import Request, Routes
from apihour_http.hush import hush

from .support import serving, wait_until


def table(streams: bool, **limits: Any) -> Routes:
    routes = Routes()
    options: dict[str, Any] = {"stream_body": True, "max_body": 16 << 20} if streams else {}

    @routes.post("/post", **options)
    async def post(request: Request) -> Any:
        form = await request.post(**limits)
        return [[name, value if isinstance(value, str) else [
            value.filename, value.content_type, value.size, len(value.file.read())]]
            for name, value in form.items()]

    @routes.post("/parts", **options)
    async def parts(request: Request) -> Any:
        found = []
        limit = {"max_part": limits["max_file"]} if "max_file" in limits else {}
        async for part in request.multipart(**limit):
            if part.name != "skipped":
                found.append([part.name, part.filename, part.content_type, len(await part.read())])
        return found

    return routes


def form(*files: bytes, text: str = "tée") -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("kind", text)
    data.add_field("skipped", "x" * 70000)
    for number, content in enumerate(files):
        data.add_field("file", content, filename=f"{number}.bin", content_type="image/png")
    return data


@pytest.mark.parametrize("streams", [True, False])
async def test_fields_and_files(streams: bool) -> None:
    async with serving(table(streams)) as served, aiohttp.ClientSession(served.url) as session:
        async with session.post("/post", data=form(b"ab", b"--\r\n" * 1000)) as answer:
            assert await answer.json() == [
                ["kind", "tée"], ["skipped", "x" * 70000],
                ["file", ["0.bin", "image/png", 2, 2]],
                ["file", ["1.bin", "image/png", 4000, 4000]]]
        async with session.post("/parts", data=form(b"", b"ab")) as answer:
            assert await answer.json() == [
                ["kind", None, "text/plain", 4], ["file", "0.bin", "image/png", 0],
                ["file", "1.bin", "image/png", 2]]
        async with session.post("/post", data={"kind": "tea"}) as answer:
            assert await answer.json() == [["kind", "tea"]]


async def test_a_large_file_goes_to_disk() -> None:
    async with serving(table(True)) as served, aiohttp.ClientSession(served.url) as session, \
            session.post("/post", data=form(b"x" * (6 << 20))) as answer:
        assert (await answer.json())[-1] == ["file", ["0.bin", "image/png", 6 << 20, 6 << 20]]


@pytest.mark.parametrize(("limits", "status"), [
    ({"max_parts": 2}, 413), ({"max_parts": 3}, 200), ({"max_file": 9}, 413),
    ({"max_file": 10}, 200), ({"max_field": 69999}, 413), ({"max_field": 70000}, 200),
])
@pytest.mark.parametrize("streams", [True, False])
async def test_limits(streams: bool, limits: Any, status: int) -> None:
    async with serving(table(streams, **limits)) as served, \
            aiohttp.ClientSession(served.url) as session, \
            session.post("/post", data=form(b"x" * 10)) as answer:
        assert answer.status == status


async def test_the_limit_of_a_part_read_by_itself() -> None:
    async with serving(table(True, max_file=9)) as served, \
            aiohttp.ClientSession(served.url) as session, \
            session.post("/parts", data=form(b"x" * 10)) as answer:
        assert answer.status == 413


HEAD = 'Content-Disposition: form-data; name="a"'
BAD = {
    "no boundary told": ("multipart/form-data", b"--b\r\n\r\n--b--"),
    "a boundary too long": (f"multipart/form-data; boundary={'b' * 99}", b""),
    "no boundary": ("multipart/form-data; boundary=b", b"x" * 100_000),
    "no end": ("multipart/form-data; boundary=b", f"--b\r\n{HEAD}\r\n\r\nvalue".encode()),
    "an endless head": ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 100_000),
    "many fields": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 5000),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nv\r\n--b--\r\n"),
    "a broken head": ("multipart/form-data; boundary=b", b"--b\r\nnothing\r\n\r\nv\r\n--b--\r\n"),
    "base64": ("multipart/form-data; boundary=b",
               f"--b\r\n{HEAD}\r\nContent-Transfer-Encoding: base64\r\n\r\nabc\r\n"
               "--b--\r\n".encode()),
    "unknown coding": ("multipart/form-data; boundary=b",
                       f"--b\r\n{HEAD}\r\nContent-Transfer-Encoding: x\r\n\r\n!\r\n--b--".encode()),
    "nested": ("multipart/form-data; boundary=b",
               f"--b\r\n{HEAD}\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--".encode()),
    "nested without one": ("multipart/form-data; boundary=b",
                           f"--b\r\n{HEAD}\r\nContent-Type: multipart/mixed\r\n\r\n--c--".encode()),
    "no text": ("multipart/form-data; boundary=b", f"--b\r\n{HEAD}\r\n\r\n".encode() +
                b"\xff\r\n--b--\r\n"),
    "unknown charset": ("multipart/form-data; boundary=b",
                        f"--b\r\n{HEAD}\r\nContent-Type: text/plain; charset=no\r\n\r\nv\r\n"
                        "--b--\r\n".encode()),
    "long charset": ("multipart/form-data; boundary=b",
                     b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' +
                     b"x" * 99 + b"\r\n--b--\r\n"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("streams", [True, False])
async def test_what_is_malformed_is_400(streams: bool, name: str) -> None:
    kind, body = BAD[name]
    async with serving(table(streams)) as served, \
            aiohttp.ClientSession(served.url) as session, \
            session.post("/post", data=body, headers={"Content-Type": kind}) as answer:
        said = await answer.text()
        assert answer.status == 400, said


@pytest.mark.parametrize("streams", [True, False])
async def test_what_is_no_form_is_415(streams: bool) -> None:
    async with serving(table(streams)) as served, aiohttp.ClientSession(served.url) as session:
        for path, kind in (("/post", "text/plain"), ("/post", "multipart/mixed; boundary=b"),
                           ("/parts", "text/plain")):
            async with session.post(path, data=b"--b--", headers={"Content-Type": kind}) as answer:
                assert answer.status == 415


async def test_a_client_that_leaves_within_a_file_leaves_nothing() -> None:
    async with serving(table(True)) as served:
        peer = await served.connect()
        peer.send(b"POST /post HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n"
                  b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
                  + f"--b\r\n{HEAD}; filename=x\r\n\r\n".encode() + b"x" * 100_000)
        await asyncio.sleep(0.05)
        peer.writer.transport.abort()
        await wait_until(lambda: not served.server.connections)


async def test_a_million_tiny_lines_hold_up_nobody() -> None:
    ticks, ended = 0, asyncio.Event()

    async def tick() -> None:
        nonlocal ticks
        while not ended.is_set():
            ticks += 1
            await asyncio.sleep(0)

    async with serving(table(False)) as served, aiohttp.ClientSession(served.url) as session:
        beside = asyncio.create_task(tick())
        head = {"Content-Type": "multipart/form-data; boundary=b"}
        before = ticks
        async with session.post("/post", data=b"\n" * (1 << 20), headers=head) as answer:
            assert answer.status == 400
        ended.set()
        await beside
        assert ticks - before > 50


async def test_parts_come_one_byte_at_a_time() -> None:
    body = f"--b\r\n{HEAD}\r\n\r\nvalue\r\n--b\r\n{HEAD}; filename=x\r\n\r\n\r\n-\r\n--b--".encode()
    async with serving(table(True)) as served:
        peer = await served.connect()
        peer.send(b"POST /post HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n"
                  b"Content-Type: multipart/form-data; boundary=b\r\n\r\n")
        for byte in body:
            peer.send(b"1\r\n%c\r\n" % byte)
            await asyncio.sleep(0)
        peer.send(b"0\r\n\r\n")
        answer = await peer.answer()
        assert json.loads(answer.body) == [["a", "value"], ["a", ["x", "text/plain", 3, 3]]]
        peer.close()


@pytest.mark.parametrize("lane", ["direct", "hosted"])
async def test_no_client_writes_into_the_log(lane: str) -> None:
    """aiohttp warns of a malformed part, with what its client wrote."""
    app = web.Application()

    async def hosted(request: web.Request) -> web.Response:
        return web.json_response([name for name in await request.post()])

    app.router.add_post("/post", hosted)
    bodies = [f'--b\r\nContent-Disposition: form-data; {rest}\r\n\r\nv\r\n--b--\r\n'
              for rest in ('name="a"; filename="x', "name=a; filename*=utf-8''%FF")]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        hush.cache_clear()
        async with serving(table(False) if lane == "direct" else None,
                           app if lane == "hosted" else None) as served, \
                aiohttp.ClientSession(served.url) as session:
            for body in bodies:
                async with session.post("/post", data=body, headers={
                        "Content-Type": "multipart/form-data; boundary=b"}):
                    pass
        assert [str(one.message) for one in seen
                if "Disposition" in one.category.__name__] == []
