"""Files that the extension answers by itself: byte for byte what a thread would, as it is now."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apihour_http import Routes
from apihour_http.connection.answers import Answers
from apihour_http.speed import compiled
from apihour_http.static import handler
from apihour_http.static.open_files import OpenFile
from tests.certificates import Authority

from ..support import Peer, Served, get, serving

pytestmark = pytest.mark.skipif(compiled is None, reason="the extension is not built, or left out")
ACCEPTED = "Accept-Encoding: br;q=1, gzip;q=0.8"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A release that a link leads to, and a secret beside it."""
    release = tmp_path / "one"
    (release / "css").mkdir(parents=True)
    (release / "css" / "a.css").write_text("plain of one")
    (release / "css" / "a.css.br").write_text("brotli of one")
    (release / "css" / "a.css.gz").write_text("gzip of one")
    (release / "b.txt").write_text("b" * 1000)
    (release / "empty.txt").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.css").write_text("secret")
    site = tmp_path / "site"
    site.symlink_to(release)
    if compiled.read_cached(os.fsencode(site), b"b.txt", (), 1000) is None:
        pytest.skip("this file system does not tell what it has in memory")
    return site


@pytest.fixture
def routes(site: Path, monkeypatch: pytest.MonkeyPatch) -> Routes:
    routes = Routes()
    routes.static("/at_once", site)
    with monkeypatch.context() as without:
        without.setattr(handler, "compiled", None)
        routes.static("/thread", site)
    return routes


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that the extension did not answer by itself."""
    found: list[str] = []
    before = Answers.run

    def run(self: Answers, request: Any) -> None:
        found.append(request.path_qs)
        before(self, request)

    monkeypatch.setattr(Answers, "run", run)
    return found


async def raw(peer: Peer, request: bytes) -> bytes:
    """An answer as it came, but for its Date."""
    peer.send(request)
    head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 30)
    length = re.search(rb"Content-Length: (\d+)", head)
    body = await asyncio.wait_for(peer.reader.readexactly(int(length[1]) if length else 0), 30)
    return re.sub(rb"Date: [^\r]+", b"Date:", head) + body


async def both(served: Served, path: str, *lines: str) -> bytes:
    """What a thread answers, which the other way has to answer as well."""
    peer = await served.connect()
    found = [await raw(peer, get(f"/{way}/{path}", *lines)) for way in ("at_once", "thread")]
    assert found[0] == found[1]
    peer.close()
    return found[1]


async def settled(served: Served, asked: list[str], path: str, *lines: str) -> bool:
    """Whether the extension answers by itself, once the kernel knows what is not there."""
    for _ in range(9):
        asked.clear()
        peer = await served.connect()
        await raw(peer, get(f"/at_once/{path}", *lines))
        peer.close()
        if not asked:
            return True
    return False


async def test_the_bytes_are_those_of_the_thread(routes: Routes, asked: list[str]) -> None:
    async with serving(routes) as served:
        for path in ("css/a.css", "b.txt", "b.txt?v=2", "empty.txt", "css//a.css", "none",
                     "css/../b.txt", "css/%2e%2e/b.txt", ".%2e/secret/a.css", "b.txt/", "css"):
            for lines in ((), (ACCEPTED,), ("accept-encoding:gzip",), ("Accept-Encoding:",),
                          (ACCEPTED, "Accept-Encoding: gzip"), ("Accept-Encoding: br;q=0",),
                          ("If-None-Match: *",), ("range: bytes=1-3",), ("IF-RANGE: x",),
                          ("If-Match: x",), ("If-Modified-Since: Fri, 27 Nov 2037 00:00:00 GMT",),
                          ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", ACCEPTED)):
                await both(served, path, *lines)
        for path, *lines in (("css/a.css", ACCEPTED), ("b.txt?v=2",), ("b.txt", ACCEPTED)):
            assert await settled(served, asked, path, *lines), path
        for line in ("If-None-Match: *", "Range: bytes=1-3", "If-Range: x", "Connection: close"):
            assert not await settled(served, asked, "css/a.css", line), line


def replace_file(site: Path) -> None:
    (site / "new").write_text("replaced")
    (site / "new").replace(site / "css" / "a.css")


def swap_root(site: Path) -> None:
    two = site.parent / "two"
    (two / "css").mkdir(parents=True)
    (two / "css" / "a.css").write_text("plain of two")
    (site.parent / "link").symlink_to(two)
    (site.parent / "link").replace(site)


def swap_directory(site: Path) -> None:
    (site / "css").rename(site / "before")
    (site / "css").symlink_to(site.parent / "secret")


def link_out(site: Path) -> None:
    for end in ("", ".br", ".gz"):
        path = site / "css" / f"a.css{end}"
        path.unlink()
        path.symlink_to(site.parent / "secret" / "a.css")


def age_brotli(site: Path) -> None:
    os.utime(site / "css" / "a.css.br", ns=(1, 1))


CHANGES: list[tuple[Callable[[Path], Any], bytes]] = [
    (replace_file, b"replaced"),  # what stands beside it is older now
    (lambda site: (site / "css" / "a.css.br").write_text("longer than before"), b"longer than bef"),
    (lambda site: os.truncate(site / "css" / "a.css.br", 3), b"bro"),
    (lambda site: (site / "css" / "a.css.br").unlink(), b"gzip of one"),
    (age_brotli, b"gzip of one"),
    (lambda site: (site / "css" / "a.css").unlink(), b"404"),
    (lambda site: (site / "css" / "a.css").chmod(0), b""),
    (link_out, b"404"), (swap_directory, b"404"), (swap_root, b"plain of two"),
    (lambda site: shutil.rmtree(site / "css"), b"404"),
    (lambda site: site.unlink(), b"404"),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
async def test_a_change_is_in_the_next_answer(
    routes: Routes, site: Path, asked: list[str], change: Callable[[Path], Any], expected: bytes
) -> None:
    for path in site.rglob("*"):  # a time that any change is behind
        os.utime(path, ns=(10**18, 10**18))
    async with serving(routes) as served:
        assert await settled(served, asked, "css/a.css", ACCEPTED)
        assert b"brotli of one" in await both(served, "css/a.css", ACCEPTED)
        change(site)
        found = await both(served, "css/a.css", ACCEPTED)
        assert expected in found and b"secret" not in found


@pytest.mark.parametrize("seconds", [-(10**12), -1, 0, 2**32, 9_300_000_000, 10**12])
async def test_times_that_no_date_can_tell(routes: Routes, site: Path, seconds: int) -> None:
    os.utime(site / "css" / "a.css", (seconds, seconds))
    os.utime(site / "css" / "a.css.br", (0, 0))
    told = (site / "css" / "a.css").stat().st_mtime_ns
    async with serving(routes) as served:
        for _ in range(2):
            for line in (ACCEPTED, "Accept-Encoding: gzip", "If-Modified-Since: x"):
                assert b" 200 OK" in await both(served, "css/a.css", line)
            assert b'"%x-c"' % told in await both(served, "css/a.css")


@pytest.mark.parametrize(("seconds", "date"), [
    (-(10**12), "Thu, 01 Jan 1970 00:00:00 GMT"), (10**12, "Fri, 31 Dec 9999 23:59:59 GMT")])
def test_what_is_told_of_such_a_time(seconds: int, date: str) -> None:
    headers = dict(handler._headers("a.css", "", OpenFile(-1, 1, seconds * 10**9)))
    assert headers["Last-Modified"] == date


async def test_requests_of_one_read(routes: Routes, site: Path, asked: list[str]) -> None:
    large = os.urandom(100_000)
    (site / "c.bin").write_bytes(large)
    async with serving(routes) as served:
        assert await settled(served, asked, "css/a.css", ACCEPTED)
        peer = await served.connect()
        names = ["css/a.css", "c.bin", "none", "b.txt"] * 8
        peer.send(b"".join(get(f"/at_once/{name}") for name in names))
        bodies = [(await peer.answer(30)).body for _ in names]
        assert bodies[0::4] == [b"plain of one"] * 8 and bodies[3::4] == [b"b" * 1000] * 8
        assert bodies[1::4] == [large] * 8
        peer.close()


async def test_over_tls(routes: Routes, asked: list[str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    async with serving(routes) as served:
        secure = await asyncio.get_running_loop().create_server(
            served.server, "127.0.0.1", 0, ssl=context)
        port = secure.sockets[0].getsockname()[1]
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=authority.client()))
        for _ in range(9):
            found = [await raw(peer, get(f"/{way}/css/a.css", ACCEPTED))
                     for way in ("at_once", "thread")]
            assert found[0] == found[1] and found[0].endswith(b"brotli of one")
        assert asked.count("/at_once/css/a.css") < 9
        peer.close()
        secure.close()
