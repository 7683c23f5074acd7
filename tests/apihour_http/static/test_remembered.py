"""Files in memory: the same answers, no disk, not longer than they may be, never without bound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apihour_http import Request, RouteError, Routes
from apihour_http.static import remembered as module
from apihour_http.testing import Client


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "a.css").write_text("a {}")
    (tmp_path / "a.css.gz").write_bytes(b"gzip of a")
    (tmp_path / "large.bin").write_bytes(b"x" * 70_000)
    return tmp_path


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: found[0])
    return found


@pytest.fixture
async def client(site: Path) -> AsyncIterator[Client]:
    routes = Routes()
    routes.static("/static", site, remember=1.0)

    @routes.middleware
    async def marked(request: Request, call: Any) -> Any:
        answer = await call(request)
        answer.headers.append(("X-Mark", "1"))
        return answer

    async with Client(routes) as client:
        yield client


async def test_a_change_is_seen_after_that_time(
    client: Client, site: Path, now: list[float]
) -> None:
    first = await client.get("/static/a.css")
    (site / "a.css").write_text("b {b: 1}")
    again = await client.get("/static/a.css")
    assert (again.status, again.text, again.headers) == (200, "a {}", first.headers)
    assert again.headers.getall("X-Mark") == ["1"]  # not one more of each request
    head = await client.request("HEAD", "/static/a.css")
    assert head.body == b"" and head.headers["Content-Length"] == "4"
    now[0] += 1.01
    assert (await client.get("/static/a.css")).text == "b {b: 1}"


async def test_codings_conditions_and_parts_are_what_they_were(
    client: Client, site: Path, now: list[float]
) -> None:
    for _ in range(2):
        plain = await client.get("/static/a.css")
        coded = await client.get("/static/a.css", headers={"Accept-Encoding": "gzip"})
        assert (plain.body, coded.body) == (b"a {}", b"gzip of a")
        assert coded.headers["ETag"] != plain.headers["ETag"]
        part = await client.get("/static/a.css", headers={"Range": "bytes=0-1"})
        assert (part.status, part.body) == (206, b"a ")
        same = await client.get("/static/a.css", headers={"If-None-Match": plain.headers["ETag"]})
        assert same.status == 304
        assert len((await client.get("/static/large.bin")).body) == 70_000
        assert (await client.get("/static/none")).status == 404


async def test_what_is_kept_is_bounded(
    client: Client, site: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    monkeypatch.setattr(module, "_ROOM", 10_000)
    files: Any = None
    for number in range(8):
        (site / f"{number}.txt").write_text("x" * 4000)
        assert (await client.get(f"/static/{number}.txt")).status == 200
        endpoints = client.server.service.table.endpoints
        files = endpoints[0].function
        assert len(files._known) <= 3
        assert files._bytes == sum(len(one.body) for _, one in files._known.values()) <= 10_000
    for _ in range(3):  # the same again does not count twice
        now[0] += 2
        await client.get("/static/7.txt")
    assert files._bytes == sum(len(one.body) for _, one in files._known.values())


@pytest.mark.parametrize("seconds", [-1, 3601, True, float("nan")])
def test_how_long_is_checked(site: Path, seconds: float) -> None:
    with pytest.raises(RouteError, match="expected 0 to 3600 seconds"):
        Routes().static("/static", site, remember=seconds)
