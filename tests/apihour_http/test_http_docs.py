"""The examples of docs/http.rst run, and answer what the page says."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .support import serving, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "http.rst").read_text()
_BLOCK = re.compile(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)")


def example(title: str) -> dict[str, Any]:
    """What the first code below the heading `title` defines."""
    text = PAGE[PAGE.index(f"\n{title}\n{'-' * len(title)}\n"):]
    found = _BLOCK.search(text)
    assert found is not None, title
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(found.group(1)), f"docs/http.rst: {title}", "exec"), names)
    return names


async def test_streams_and_events() -> None:
    async with serving(example("Streams and events")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.get("/squares") as answer:
            lines = (await answer.text()).splitlines()
            assert answer.headers["Content-Type"] == "text/csv"
            assert len(lines) == 1000 and lines[9] == "9,81"
        async with session.get("/ticks", headers={"Last-Event-ID": "6"}) as answer:
            assert (await answer.text()).startswith('id: 7\ndata: {"tick":7}\n\nid: 8\n')


async def test_middlewares_and_limits() -> None:
    async with serving(example("Middlewares and limits")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.get("/v1/stock/tea") as answer:
            assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        known = {"Authorization": "Bearer secret"}
        async with session.get("/v1/stock/tea", headers=known) as answer:
            assert await answer.json() == {"left": 3} and answer.headers["X-User"] == "ada"
        async with session.get("/v1/stock/gin", headers=known) as answer:
            assert answer.status == 404 and "gin" in (await answer.json())["missing"]
            assert answer.headers["X-User"] == "ada"


async def test_what_an_endpoint_asks_for() -> None:
    async with serving(example("What an endpoint asks for")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.get("/basket", headers={"X-User": "ada"}) as answer:
            assert await answer.json() == {"user": "ada", "items": 1}
        async with session.get("/basket") as answer:
            assert answer.status == 401


async def test_work_after_the_answer() -> None:
    names = example("Work after the answer")
    async with serving(names["routes"]) as served, aiohttp.ClientSession(served.url) as session:
        async with session.post("/orders") as answer:
            assert (answer.status, await answer.json()) == (201, {"accepted": True})
            assert names["sent"] == []
        await wait_until(lambda: names["sent"] == ["ada@example.org"])


async def test_uploads() -> None:
    async with serving(example("Uploads")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        big = b"x" * (3 << 20)
        async with session.put("/files/big", data=big) as answer:
            assert await answer.json() == {"sha256": hashlib.sha256(big).hexdigest()}
        form = aiohttp.FormData({"name": "ada"})
        form.add_field("picture", b"\x89PNG" * 50_000, filename="a.png")
        async with session.post("/photos", data=form) as answer:
            assert await answer.json() == {"a.png": 200_000}
        form = aiohttp.FormData({"name": "ada"})
        form.add_field("picture", b"\x89PNG" * 50_000, filename="a.png")
        async with session.post("/profile", data=form) as answer:
            assert await answer.json() == {"name": "ada", "begins": "89504e47"}


async def test_websockets() -> None:
    async with serving(example("WebSockets")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.ws_connect("/rooms/tea") as ada, \
                session.ws_connect("/rooms/tea") as bob:
            await ada.send_str("milk?")
            assert [await one.receive_str() for one in (ada, bob)] == ["milk?"] * 2
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await session.ws_connect("/rooms/gin")


async def test_files() -> None:
    async with serving(example("Files")["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.get("/static/main.css") as answer:
            assert await answer.text() == "body { color: black }"
            etag = answer.headers["ETag"]
        async with session.get("/static/main.css", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304


async def test_cors() -> None:
    async with serving(example("CORS, and types of a middleware")["routes"]) as served, \
            aiohttp.ClientSession(served.url, headers={"Origin": "https://x"}) as session:
        preflight = {"Access-Control-Request-Method": "PUT"}
        async with session.options("/shared", headers=preflight) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Methods"] == "OPTIONS, PUT"
        for method, path, status in (("PUT", "/shared", 204), ("GET", "/nowhere", 404)):
            async with session.request(method, path) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"


def test_the_middleware_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    text = PAGE[PAGE.index("\nCORS, and types of a middleware\n"):]
    found = _BLOCK.search(text)
    assert found is not None
    (tmp_path / "cors.py").write_text(textwrap.dedent(found[1]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file",
         str(Path(__file__).parents[2] / "setup.cfg"), str(tmp_path / "cors.py")],
        cwd=Path(__file__).parents[2], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_feed_of_a_websocket_ends_with_its_client() -> None:
    text = PAGE[PAGE.index("An endpoint that neither receives nor sends"):]
    found = _BLOCK.search(text)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(found[1]), "docs/http.rst: WebSockets", "exec"), names)
    async with serving(names["routes"]) as served, \
            aiohttp.ClientSession(served.url) as session:
        async with session.ws_connect("/news") as websocket:
            names["news"].put_nowait("rain")
            assert await websocket.receive_str(timeout=10) == "rain"
        await wait_until(lambda: served.server.statistics()["connections"] == 0)
        await wait_until(lambda: not [one for one in asyncio.all_tasks()
                                      if "push" in repr(one.get_coro())])
