"""Answers compressed for those who take it: which, how, and what stays as it is."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apihour_http import SSE, HTTPError, Request, Response, Routes, Stream
from apihour_http.routing import codings

from ..support import Served, get, serving, wait_until

ROWS = [{"number": number, "text": "row"} for number in range(100)]
ENDED: list[str] = []


async def pieces(count: int) -> AsyncIterator[str]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield f"row {number}\n"
    finally:
        ENDED.append("pieces")


ANSWERS: dict[str, Callable[[], Any]] = {
    "rows": lambda: ROWS, "text": lambda: "x" * 2000, "large": lambda: ROWS * 50,
    "short": lambda: {"a": 1}, "none": lambda: None,
    "error": lambda: HTTPError(404, "x" * 2000), "bytes": lambda: b"x" * 2000,
    "image": lambda: Response(200, {"Content-Type": "image/png"}, "x" * 2000),
    "svg": lambda: Response(200, {"Content-Type": "image/svg+xml"}, "x" * 2000),
    "coded": lambda: Response(200, {"Content-Encoding": "br"}, "x" * 2000),
    "tagged": lambda: Response(200, {"ETag": '"a"', "Vary": "Origin"}, ROWS),
    "csv": lambda: Stream(pieces(200), headers={"Content-Type": "text/csv"}),
    "sized": lambda: Stream(pieces(1), headers={"Content-Type": "text/csv"}, length=6),
    "binary": lambda: Stream(pieces(2)),
    "feed": lambda: Stream(pieces(2), headers={"Content-Type": "text/csv"}, endless=True),
    "events": lambda: SSE(pieces(2)),
}
COMPRESSED = {"rows", "text", "large", "error", "svg", "tagged", "csv", "sized"}


def make(form: str) -> Routes:
    routes = Routes()

    def inline(request: Request) -> Any:
        return ANSWERS[request.match_info["which"]]()

    async def later(request: Request) -> Any:
        return inline(request)

    routes.get("/plain/{which}")(inline)
    routes.get("/{which}", compress=True)(inline if form == "def" else later)
    return routes


async def ask(served: Served, path: str, accepted: str = "gzip, zstd", method: str = "GET") -> Any:
    peer = await served.connect()
    peer.send(get(path, f"Accept-Encoding: {accepted}").replace(b"GET", method.encode()))
    answer = await peer.answer(head=method == "HEAD")
    peer.close()
    return answer


@pytest.mark.parametrize("form", ["def", "async def"])
async def test_text_is_compressed_and_the_rest_is_not(form: str) -> None:
    async with serving(make(form)) as served:
        for which in ANSWERS:
            plain = await ask(served, f"/plain/{which}")
            answer = await ask(served, f"/{which}")
            assert answer.status == plain.status
            coding = "gzip" if which in COMPRESSED else plain.headers.get("content-encoding")
            assert answer.headers.get("content-encoding") == coding, which
            body = gzip.decompress(answer.body) if which in COMPRESSED else answer.body
            assert body == plain.body, which
            assert answer.headers.get("content-type") == plain.headers.get("content-type")
            for accepted in ("", "gzip;q=0", "zstd", "br;q=0, gzip;q=0.0"):
                other = await ask(served, f"/{which}", accepted)
                assert other.body == plain.body
            if which in COMPRESSED:
                assert "Accept-Encoding" in other.headers["vary"]


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """That of the libraries these are there, and no others."""
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found(name) if (
        name in names or name not in ("isal", "brotli", "brotlicffi")) else None)


async def test_brotli_comes_before_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    brotli = pytest.importorskip("brotli")
    installed(monkeypatch, "brotli")
    async with serving(make("async def")) as served:
        for which in COMPRESSED:
            plain = await ask(served, f"/plain/{which}")
            answer = await ask(served, f"/{which}", "gzip, deflate, br")
            assert answer.headers["content-encoding"] == "br"
            assert brotli.decompress(answer.body) == plain.body
            assert "Accept-Encoding" in answer.headers["vary"]
            other = await ask(served, f"/{which}", "br;q=0, gzip")
            assert other.headers["content-encoding"] == "gzip"


async def test_isal_comes_before_brotli(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("isal")
    installed(monkeypatch, "brotli", "isal")
    async with serving(make("async def")) as served:
        for which in COMPRESSED:
            plain = await ask(served, f"/plain/{which}")
            answer = await ask(served, f"/{which}", "gzip, deflate, br")
            assert answer.headers["content-encoding"] == "gzip"
            assert gzip.decompress(answer.body) == plain.body
            if importlib.util.find_spec("brotli") is not None:
                other = await ask(served, f"/{which}", "br, gzip;q=0")
                assert other.headers["content-encoding"] == "br"


async def test_without_either_it_is_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    routes = make("async def")
    served = serving(routes)
    async with served as running:
        answer = await ask(running, "/rows", "gzip, br")
        assert answer.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in (await ask(running, "/rows", "br")).headers


async def test_the_head_is_that_of_the_compressed_answer() -> None:
    async with serving(make("async def")) as served:
        answer = await ask(served, "/tagged")
        assert answer.headers["etag"] == 'W/"a"'
        assert len(answer.body) < len(json.dumps(ROWS)) / 5
        head = await ask(served, "/tagged", method="HEAD")
        del answer.headers["date"], head.headers["date"]
        assert head.headers == answer.headers


async def test_each_piece_of_a_stream_is_on_its_way_before_the_next() -> None:
    gate = asyncio.Event()
    ended: list[int] = []

    async def slow() -> AsyncIterator[str]:
        try:
            yield "first"
            await gate.wait()
            yield "last"
        finally:
            ended.append(1)

    routes = Routes()
    routes.get("/", compress=True, max_in_flight=1)(
        lambda request: Stream(slow(), headers={"Content-Type": "text/plain"}))
    async with serving(routes) as served:
        for leaves in (False, True):
            peer = await served.connect()
            peer.send(get("/", "Accept-Encoding: gzip"))
            await peer.reader.readuntil(b"\r\n\r\n")
            size = int(await peer.reader.readline(), 16)
            coder = zlib.decompressobj(31)
            assert coder.decompress(await peer.reader.readexactly(size)) == b"first"
            if not leaves:
                gate.set()
                await peer.reader.readuntil(b"0\r\n\r\n")
                gate.clear()
                peer.close()
            else:
                assert (await ask(served, "/")).status == 503
                peer.writer.transport.abort()
                gate.set()
            await wait_until(lambda: not served.server.connections)
        await wait_until(lambda: len(ended) == 2)
        assert (await ask(served, "/")).status == 200


@pytest.mark.parametrize("libraries", [(), ("isal",)])
async def test_large_pieces_of_a_stream_are_compressed_in_a_thread(
    libraries: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large answers are: a piece of some megabytes holds up nobody."""
    where: dict[int, bool] = {}
    before = codings.GzipCoder.process

    def process(self: Any, data: bytes) -> bytes:
        where[len(data)] = threading.current_thread() is threading.main_thread()
        return before(self, data)

    monkeypatch.setattr(codings.GzipCoder, "process", process)
    installed(monkeypatch, *libraries)
    sizes = (10, 100_000, 20, 3_000_000)

    async def body() -> AsyncIterator[str]:
        for size in sizes:
            yield "x" * size

    routes = Routes()
    routes.get("/", compress=True)(
        lambda request: Stream(body(), headers={"Content-Type": "text/plain"}))
    async with serving(routes) as served:
        answer = await ask(served, "/")
        assert gzip.decompress(answer.body) == b"x" * sum(sizes)
    assert where == {10: True, 100_000: False, 20: True, 3_000_000: False}
