"""Files that need no thread: the same answers as from one, as the file is now, never a way out."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apihour_http import Request, Response, Routes
from apihour_http.connection import answers
from apihour_http.http2.stream_lane import StreamLane
from apihour_http.speed import compiled
from apihour_http.static import cached_files, handler
from apihour_http.testing import Client
from tests.apihour_http.http2.support import connected
from tests.apihour_http.support import serving

pytestmark = pytest.mark.skipif(compiled is None, reason="the extension is not built, or left out")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory on a file system that can tell what it has in memory."""
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / "a.css").write_text("a {}")
    (root / "a.css.gz").write_bytes(b"gzip of a")
    (root / "a.css.br").write_bytes(b"brotli of a")
    (root / "old.js.br").write_bytes(b"older")
    os.utime(root / "old.js.br", ns=(1, 1))
    (root / "old.js").write_text("newer")
    (root / "empty.txt").write_text("")
    (root / "sub" / "b ü.txt").write_text("b")
    (root / "sub" / "index.html").write_text("<p>")
    (root / "large.bin").write_bytes(b"x" * 140_000)
    (root / ".env").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "away").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    if compiled.read_cached(os.fsencode(root), b"a.css", (), 99) is None:
        pytest.skip("this file system does not tell what it has in memory")
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths for which a thread was asked."""
    found: list[str] = []
    before = handler._answer

    def answer(request: Any, root: str, path: str) -> Any:
        found.append(path)
        return before(request, root, path)

    monkeypatch.setattr(handler, "_answer", answer)
    return found


@pytest.fixture
async def client(
    site: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    routes = Routes()
    routes.static("/at_once", site)
    with monkeypatch.context() as without:
        without.setattr(handler, "compiled", None)
        routes.static("/thread", site)

    @routes.middleware
    async def marked(request: Request, call: Any) -> Any:
        answer = await call(request)
        answer.headers.append(("X-Mark", "1"))
        return answer

    async with Client(routes) as client:
        yield client


def fields(answer: Any) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in answer.headers.items() if name != "Date")


PATHS = ["a.css", "old.js", "empty.txt", "sub/b%20%C3%BC.txt", "sub/", "sub", "large.bin", ".env",
         "link", "away/outside", "pipe", "none", "none/none", "a.css/none", "..%2Foutside",
         "%2Fetc/passwd", "a.css%00", "sub/../a.css", ".", "x" * 300]
CODINGS = ["", "gzip", "br;q=1, gzip;q=0.8", "zstd, br;q=0"]


@pytest.mark.parametrize("coding", CODINGS)
async def test_the_answers_are_those_of_the_thread(client: Client, coding: str) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD"):
            headers = {"Accept-Encoding": coding}
            made, known = [await client.request(method, f"/{way}/{path}", headers=headers)
                           for way in ("at_once", "thread")]
            assert (made.status, made.body) == (known.status, known.body), path
            assert fields(made) == fields(known), path
            assert b"secret" not in made.body


async def test_small_files_need_no_thread(client: Client, site: Path, asked: list[str]) -> None:
    for _ in range(9):  # first the kernel has to learn which of them are not there
        asked.clear()
        for path in ("a.css", "old.js", "empty.txt", "sub/b%20%C3%BC.txt"):
            for coding in CODINGS:
                found = await client.get(f"/at_once/{path}", headers={"Accept-Encoding": coding})
                assert found.status == 200 and found.headers.getall("X-Mark") == ["1"]
        if not asked:
            break
    assert asked == []
    await client.get("/at_once/large.bin")
    await client.get("/at_once/a.css", headers={"Range": "bytes=1-2"})
    await client.get("/at_once/a.css", headers={"If-None-Match": "*"})
    assert asked == ["large.bin", "a.css", "a.css"]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks in which an answer of HTTP/1 was made."""
    found: list[str] = []
    before = answers._task

    def noted(coro: Any, loop: Any, name: str) -> Any:
        found.append(name)
        return before(coro, loop=loop, name=name)

    monkeypatch.setattr(answers, "_task", noted)
    return found


async def known(client: Client, path: str, tasks: list[str]) -> bool:
    """Whether it is answered without a task, once the kernel has learnt of it."""
    for _ in range(9):
        tasks.clear()
        assert (await client.get(path)).status == 200
        if not tasks:
            return True
    return False


async def test_what_is_known_at_once_needs_no_task(
    site: Path, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    routes, watched = Routes(), Routes()
    routes.static("/files", site)
    watched.static("/watched", site)

    @watched.exception_handler(ZeroDivisionError)
    def nothing(request: Request, error: Exception) -> Response:
        return Response(500)

    routes.include(watched)
    async with Client(routes) as client:
        assert await known(client, "/files/a.css", tasks)
        assert not await known(client, "/files/large.bin", tasks)
        assert not await known(client, "/watched/a.css", tasks)
        measuring = asyncio.ensure_future(client.server.measure(1.0))
        await asyncio.sleep(0)
        assert not await known(client, "/files/a.css", tasks)
        assert not measuring.done(), "the machine was too slow for the measure"
        row, = await measuring
        assert (row["route"], row["requests"]) == ("GET /files/{path:path}", 9)
        assert await known(client, "/files/a.css", tasks)
        monkeypatch.setattr(cached_files, "OpenFile", lambda *arguments: 1 / 0)
        (site / "a.css").write_text("b {}")  # its header lines are to be made
        tasks.clear()
        assert (await client.get("/files/a.css")).status == 500
        assert not tasks


async def test_what_is_known_at_once_needs_no_task_in_http2(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    before = StreamLane.run

    def noted(self: StreamLane, work: Any, name: str) -> None:
        ran.append(name)
        before(self, work, name)

    monkeypatch.setattr(StreamLane, "run", noted)
    routes = Routes()
    routes.static("/files", site)
    async with serving(routes) as served, connected(served) as client:
        for path, body in (("a.css", b"a {}"), ("large.bin", b"x" * 140_000)):
            for _ in range(9):
                ran.clear()
                reply = await client.reply(client.ask("GET", f"/files/{path}"))
                assert reply.body == body
                if not ran:
                    break
            assert bool(ran) is (path == "large.bin")


async def test_a_change_is_seen_at_once(client: Client, site: Path) -> None:
    first = await client.get("/at_once/sub/b%20%C3%BC.txt")
    (site / "sub" / "b ü.txt").write_text("changed")
    again = await client.get("/at_once/sub/b%20%C3%BC.txt")
    assert (first.text, again.text) == ("b", "changed")
    assert first.headers["ETag"] != again.headers["ETag"]
    (site / "sub" / "b ü.txt").unlink()
    assert (await client.get("/at_once/sub/b%20%C3%BC.txt")).status == 404


BR = (("br", ".br"), ("gzip", ".gz"))


def test_what_is_known_at_once(site: Path) -> None:
    root, none = os.fsencode(site), ()
    told = (site / "a.css").stat()
    plain = ("", 4, told.st_mtime_ns, b"a {}")
    assert compiled.read_cached(root, b"a.css", none, 4) == plain
    assert compiled.read_cached(root, b"a.css", none, 3) is None
    assert compiled.read_cached(root, b"empty.txt", none, 9)[3] == b""
    assert compiled.read_cached(root, b"a.css", BR, 99)[::3] == ("br", b"brotli of a")
    assert compiled.read_cached(root, b"a.css", BR[1:], 99)[::3] == ("gzip", b"gzip of a")
    assert compiled.read_cached(root, b"a.css", BR, 4) is None
    for odd in (b"none", b"link", b"away/outside", b"pipe", b"sub", b"../outside", b"/etc/passwd",
                b"a.css/none", b"x" * 300, b"x" * 5000, b"", b"sub/", b"/a.css", b"sub//index.html",
                b".env", b"sub/.env", b".", b"sub/../a.css", b"a.css\0", b"x/" * 2045 + b"a.css"):
        assert compiled.read_cached(root, odd, BR, 99) is None, odd
    for long in range(4085, 4098):  # where the end of a name would be behind the last byte
        assert compiled.read_cached(root, b"x" * long, BR, 99) is None
    assert compiled.read_cached(root + b"/none", b"a.css", none, 99) is None
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        for path in (b"a.css", b"old.js", b"link", b"sub", b"empty.txt"):
            compiled.read_cached(root, path, BR, 4)
            compiled.read_cached(root, path, BR, 99)
    assert len(os.listdir("/proc/self/fd")) == before
    for wrong in ((root, "a.css", none, 1), (root, b"a", none), (None, b"a", none, 1),
                  (root, b"a", None, 1), (root, b"a.css", ("br",), 9), (root, b"a.css", ((),), 9),
                  (root, b"a.css", ((b"br", b".br"),), 9)):
        with pytest.raises((TypeError, ValueError)):
            compiled.read_cached(*wrong)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wrong_one_of_those_that_are_asked_first() -> None:
    for wrong in ((), ("/", 1, len, len, len), (b"/", "1", len, len, len)):
        with pytest.raises(TypeError):
            compiled.KnownFiles(*wrong)
    assert compiled.KnownFiles(b"/", 1, len, len, lambda request: request)(7) == 7


def test_a_file_that_changes_while_it_is_read_is_told_whole_or_not_at_all(site: Path) -> None:
    """For ``speed/sanitized`` as well: sizes that are not those of a moment ago."""
    root, path, is_over = os.fsencode(site), site / "a.css", threading.Event()
    sizes = (0, 1, 4_000, 300_000, 1 << 20, (1 << 20) + 1)

    def change() -> None:
        for number in itertools.cycle(range(12)):
            with path.open("r+b") as file:  # in place: an open file grows and shrinks
                file.truncate(sizes[number % len(sizes)])
                file.write(b"z" * sizes[number % len(sizes)])
            if number == 11:
                other = site / "other"
                other.write_bytes(b"y" * 5_000)
                other.replace(path)
            if is_over.is_set():
                return

    changing = threading.Thread(target=change)
    changing.start()
    try:
        seen = Counter[str]()
        ends = time.monotonic() + 30
        while not (seen["whole"] and len(seen) > 1 and seen.total() > 500):
            assert time.monotonic() < ends, seen
            for most in (5_000, 1 << 20, 1 << 62):
                told = compiled.read_cached(root, b"a.css", (), most)
                assert told is None or len(told[3]) == told[1] <= most
                seen["whole" if told else "not now, or too large"] += 1
    finally:
        is_over.set()
        changing.join()
