"""Files of a directory over HTTP: what is found, what never is, parts, encodings, descriptors."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from apihour_http import Request, RouteError, Routes
from apihour_http.static import handler
from apihour_http.static.open_files import FilePieces

from ..support import Served, get, serving, wait_until

BIG = os.urandom(3_000_000)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "css").mkdir(parents=True)
    (root / ".well-known").mkdir()
    (root / "css" / "main.css").write_text("body{}" * 100)
    (root / "big.bin").write_bytes(BIG)
    (root / "empty.txt").touch()
    (root / "a b é.txt").write_text("spaced")
    (root / ".well-known" / "security.txt").write_text("known")
    (root / ".env").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return root


def serve(site: Path) -> Any:
    routes = Routes()
    routes.static("/static", site)
    return serving(routes)


async def ask(served: Served, path: str, *lines: str, method: bytes = b"GET") -> Any:
    peer = await served.connect()
    peer.send(get(path, *lines).replace(b"GET", method))
    answer = await peer.answer(head=method == b"HEAD")
    peer.close()
    return answer


async def test_files_and_their_types(site: Path) -> None:
    async with serve(site) as served:
        for path, kind, body in (
            ("css/main.css", "text/css; charset=utf-8", b"body{}" * 100),
            ("empty.txt", "text/plain; charset=utf-8", b""),
            ("a%20b%20%C3%A9.txt", "text/plain; charset=utf-8", b"spaced"),
            (".well-known/security.txt", "text/plain; charset=utf-8", b"known"),
            ("big.bin", "application/octet-stream", BIG),
        ):
            answer = await ask(served, f"/static/{path}")
            assert (answer.status, answer.headers["content-type"]) == (200, kind)
            assert answer.body == body and answer.headers["content-length"] == str(len(body))
            head = await ask(served, f"/static/{path}", method=b"HEAD")
            del answer.headers["date"], head.headers["date"]
            assert head.status == 200 and head.headers == answer.headers


@pytest.mark.parametrize("path", [
    "", "css", "css/", "none.txt", "css/none.css", "css/main.css/", "css/main.css/x", ".env",
    "fifo",
    "link.txt", "folder/secret.txt", "../secret.txt", "css/../../secret.txt", "..%2Fsecret.txt",
    "%2e%2e/secret.txt", "css/..%2f..%2fsecret.txt", "/etc/passwd", "%2Fetc%2Fpasswd", "a%00b",
    "css//main.css", "./css/main.css", "..\\secret.txt", "x" * 300, "css%2F%2Fmain.css",
])
async def test_what_is_not_there(site: Path, path: str) -> None:
    async with serve(site) as served:
        assert (await ask(served, f"/static/{path}")).status == 404


async def test_a_directory_is_its_index(site: Path) -> None:
    (site / "index.html").write_text("top")
    (site / "css" / "index.html").write_text("styles")
    (site / "a:b").mkdir()
    (site / "a:b" / "index.html").write_text("colon")
    (site / "up").symlink_to(site.parent)
    async with serve(site) as served:
        for path, body in (("", b"top"), ("css/", b"styles"), ("a:b/", b"colon")):
            answer = await ask(served, f"/static/{path}")
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
        for path, place in (("css", "./css/"), ("css?a=b", "./css/?a=b"), ("a:b", "./a:b/"),
                            ("a%3Ab", "./a%3Ab/")):
            answer = await ask(served, f"/static/{path}")
            assert (answer.status, answer.headers["location"]) == (301, place)
        for path in ("up", "up/", ".well-known", ".well-known/", "css//", "..", "../", "/", "//"):
            assert (await ask(served, f"/static/{path}")).status == 404, path


async def test_types_are_the_same_on_every_machine(site: Path) -> None:
    kinds = {"a.js": "text/javascript; charset=utf-8", "a.mjs": "text/javascript; charset=utf-8",
             "a.json": "application/json", "a.wasm": "application/wasm", "a.woff2": "font/woff2",
             "a.svg": "image/svg+xml", "a.webp": "image/webp", "a.unknown":
             "application/octet-stream", "a.tar.gz": "application/gzip", "a": "application/"
             "octet-stream", "a.html": "text/html; charset=utf-8"}
    async with serve(site) as served:
        for name, kind in kinds.items():
            (site / name).write_text("{}")
            assert (await ask(served, f"/static/{name}")).headers["content-type"] == kind


async def test_validators_save_the_body(site: Path) -> None:
    async with serve(site) as served:
        first = (await ask(served, "/static/css/main.css")).headers
        for line in (f"If-None-Match: {first['etag']}",
                     f"If-Modified-Since: {first['last-modified']}"):
            answer = await ask(served, "/static/css/main.css", line)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["etag"] == first["etag"]
        assert (await ask(served, "/static/css/main.css", 'If-Match: "x"')).status == 412
        (site / "css" / "main.css").write_text("new")
        answer = await ask(served, "/static/css/main.css", f"If-None-Match: {first['etag']}")
        assert (answer.status, answer.body) == (200, b"new")


async def test_parts(site: Path) -> None:
    async with serve(site) as served:
        for asked, start, end in (("bytes=0-9", 0, 10), ("bytes=1000000-", 1_000_000, len(BIG)),
                                  ("bytes=-5", len(BIG) - 5, len(BIG))):
            answer = await ask(served, "/static/big.bin", f"Range: {asked}")
            assert (answer.status, answer.body) == (206, BIG[start:end])
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(BIG)}"
        answer = await ask(served, "/static/big.bin", "Range: bytes=3000000-")
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */3000000")
        assert (await ask(served, "/static/big.bin", "Range: bytes=0-1", 'If-Range: "x"')
                ).status == 200


async def test_what_was_compressed_beforehand_is_sent(site: Path) -> None:
    packed = gzip.compress(b"body{}" * 100)
    (site / "css" / "main.css.gz").write_bytes(packed)
    (site / "css" / "main.css.br").write_bytes(b"brotli")
    async with serve(site) as served:
        etags = set()
        for accepted, coding, body in (("gzip, br", "br", b"brotli"), ("gzip", "gzip", packed),
                                       ("br;q=0", None, b"body{}" * 100)):
            answer = await ask(served, "/static/css/main.css", f"Accept-Encoding: {accepted}")
            assert answer.headers.get("content-encoding") == coding and answer.body == body
            assert answer.headers["content-type"] == "text/css; charset=utf-8"
            assert answer.headers["vary"] == "Accept-Encoding"
            etags.add(answer.headers["etag"])
        assert len(etags) == 3
        raw = await ask(served, "/static/css/main.css.gz")
        assert raw.headers["content-type"] == "application/gzip" and raw.body == packed
        os.utime(site / "css" / "main.css.br", (1, 1))  # older than what it was made of
        answer = await ask(served, "/static/css/main.css", "Accept-Encoding: br")
        assert "content-encoding" not in answer.headers


async def test_no_descriptor_is_left(site: Path) -> None:
    async with serve(site) as served:
        await ask(served, "/static/css/main.css")
        before = len(os.listdir("/proc/self/fd"))
        for lines in ((), ("Range: bytes=1-",), ('If-None-Match: "x"',),
                      ("Range: bytes=9999999-",)):
            await ask(served, "/static/big.bin", *lines)
            await ask(served, "/static/big.bin", *lines, method=b"HEAD")
        for path in ("link.txt", "fifo", "css", "none/none"):
            await ask(served, f"/static/{path}")
        peer = await served.connect()
        peer.send(get("/static/big.bin"))
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.abort()
        await wait_until(lambda: not served.server.connections)
        await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.mark.parametrize(("number", "status", "body"), [
    (errno.EACCES, 200, b"body{}" * 100), (errno.EMFILE, 503, None), (errno.EIO, 500, None),
])
async def test_what_stands_beside_and_cannot_be_opened(
    site: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, body: bytes | None
) -> None:
    def open_beneath(directory: str, path: str) -> Any:
        if path.endswith(".br"):
            raise OSError(number, os.strerror(number))
        return before(directory, path)

    before = handler.open_beneath
    monkeypatch.setattr(handler, "open_beneath", open_beneath)
    monkeypatch.setattr(handler, "compiled", None)
    async with serve(site) as served:
        await ask(served, "/static/css/main.css")
        await wait_until(lambda: not served.server.connections)
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            answer = await ask(served, "/static/css/main.css", "Accept-Encoding: br")
            assert answer.status == status
            assert body is None or answer.body == body
        await wait_until(lambda: not served.server.connections)
        await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


@pytest.mark.parametrize("line", ["Accept: */*", "Range: bytes=0-9"])
async def test_what_is_shorter_than_it_was_is_not_sent_with_its_headers(
    site: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def pread(fd: int, count: int, start: int) -> bytes:
        return before(fd, count, start)[:5]  # as where it was truncated a moment ago

    before = os.pread
    monkeypatch.setattr(handler, "compiled", None)
    async with serve(site) as served:
        monkeypatch.setattr(os, "pread", pread)
        answer = await ask(served, "/static/css/main.css", line)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_file_cut_short_meanwhile_is_cut_off(site: Path) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    os.truncate(site / "big.bin", 100_000_000)  # more than all buffers hold
    async with serve(site) as served:
        peer = await served.connect()
        peer.send(get("/static/big.bin"))
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        os.truncate(site / "big.bin", 10)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await peer.ask(b"", timeout=30)) < 100_000_000
        assert "expected length=100000000" in str(told[0]["exception"])


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What sendfile(2) put into sockets."""
    counts: list[int] = []
    original = FilePieces.send_to

    def send_to(self: FilePieces, fd: int) -> int:
        count = original(self, fd)
        counts.append(count)
        return count

    monkeypatch.setattr(FilePieces, "send_to", send_to)
    return counts


async def test_the_kernel_sends_what_is_large_and_answers_keep_their_order(
    site: Path, sent: list[int],
) -> None:
    async with serve(site) as served:
        peer = await served.connect()
        small, big = get("/static/css/main.css"), get("/static/big.bin")
        peer.send(small + big + get("/static/big.bin", "Range: bytes=5-2000004") + small + big)
        for body in (b"body{}" * 100, BIG, BIG[5:2_000_005], b"body{}" * 100, BIG):
            assert (await peer.answer(30)).body == body
        assert sum(sent) == 2 * len(BIG) + 2_000_000
        peer.close()


async def test_where_it_cannot_the_file_is_read(
    site: Path, sent: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apihour_http.streaming.sending.can_send", lambda lane: False)
    async with serve(site) as served:
        assert (await ask(served, "/static/big.bin")).body == BIG
    assert sent == []


@pytest.mark.parametrize("ends", ["it takes nothing", "it leaves"])
async def test_a_client_that_does_not_take_a_file_leaves_nothing(site: Path, ends: str) -> None:
    os.truncate(site / "big.bin", 100_000_000)  # more than all buffers hold
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    routes = Routes()
    routes.static("/static", site)
    async with serving(routes, write_timeout=0.3 if ends == "it takes nothing" else 60.0) as served:
        await ask(served, "/static/big.bin", "Range: bytes=0-9")
        before = len(os.listdir("/proc/self/fd"))
        peer = await served.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(get("/static/big.bin"))
        await wait_until(lambda: served.server.statistics()["in_flight"] == 1)
        if ends == "it leaves":
            await asyncio.sleep(0.1)
            peer.writer.transport.abort()
        await wait_until(lambda: not served.server.connections, timeout=30)
        peer.writer.transport.abort()
        await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert told == []


async def test_other_routes_and_wrong_directories(site: Path) -> None:
    routes = Routes("/v1")
    routes.static("/files/", site)

    @routes.get("/files/own")
    def own(request: Request) -> str:
        return "own"

    async with serving(routes) as served:
        assert (await ask(served, "/v1/files/own")).body == b"own"
        assert (await ask(served, "/v1/files/css/main.css")).status == 200
        assert (await ask(served, "/v1/files/css/main.css", method=b"POST")).status == 405
    for wrong in (site / "none", site / "big.bin", 5, "/none/at/all"):
        with pytest.raises(RouteError, match="expected a directory"):
            Routes().static("/static", wrong)  # type: ignore[arg-type]


async def test_a_range_is_one_of_get_alone(site: Path) -> None:
    async with serve(site) as served:
        for asked in ("bytes=0-9", "bytes=3000000-"):
            answer = await ask(served, "/static/big.bin", f"Range: {asked}", method=b"HEAD")
            assert (answer.status, answer.headers["content-length"]) == (200, str(len(BIG)))
            assert "content-range" not in answer.headers
