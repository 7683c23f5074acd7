"""gunicorn's corpus and hostile requests on all lanes, by both parsers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from apihour_asgi.host import ASGIHost
from apihour_http import Request, Routes

from .corpus import Case, cases, with_host
from .support import Served, get, serving

# Valid ones that are refused, and why.
REFUSED = {
    "013": "llhttp allows no white space in chunk extensions",
    "025": "transfer codings other than chunked are refused (RFC 9112 6.1 lets a server)",
    "025_line": "the same",
    "029": "identity was removed from the protocol (RFC 9112 appendix C.2)",
    "030": "the same",
    "031": "llhttp knows the registered methods only",
    "rfc9112_smuggle_gzip_chunked_01": "transfer codings other than chunked",
    "rfc9112_smuggle_te_identity_chunked_01": "transfer codings other than chunked",
    "rfc9112_target_absolute_userinfo_01": "user information in a target (RFC 9110 4.2.4)",
    "rfc9112_target_authority_connect_01": "CONNECT is for proxies",
    "rfc9112_target_authority_ipv6_01": "CONNECT is for proxies",
    "099": "announces more bytes than the file has",
}


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Case]]:
    try:
        return {kind: cases(kind) for kind in ("valid", "invalid")}
    except OSError as error:
        pytest.skip(f"the corpus cannot be had: {error}")


def everything(lane: str) -> dict[str, Any]:
    """Routes or an application that answer every method and path."""
    if lane == "direct":
        routes = Routes()

        async def answer(request: Request) -> dict[str, int]:
            return {"length": len(await request.read())}

        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            routes.route(method, "/{rest:path}")(answer)
        return {"routes": routes}
    if lane == "asgi":
        return {"app": ASGIHost(asgi, "off", "", None)}
    app = web.Application()

    async def hosted(request: web.Request) -> web.Response:
        return web.json_response({"length": len(await request.read())})

    app.router.add_route("*", "/{rest:.*}", hosted)
    return {"app": app}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = b'{"length": %d}' % length
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


QUICK = {"header_timeout": 0.03, "body_timeout": 0.03, "body_rate": 1e9, "keepalive": 0.03}
PATIENT = {"header_timeout": 10.0, "body_timeout": 10.0, "keepalive": 2.0}
PATIENCE = 60.0


@asynccontextmanager
async def judging(
    lane: str, parser: str, **options: Any
) -> AsyncIterator[Callable[[Callable[[Served], Awaitable[str]]], Awaitable[str]]]:
    """Serve, and give what asks a judge what is wrong with the answer to a case.

    Each case is waited for until the server closes, so its deadlines are quick; a busy machine
    misses them. What was wrong is therefore asked once more of a server that is patient.
    """
    async with (serving(**everything(lane), parser=parser, **(QUICK | options)) as quick,
                serving(**everything(lane), parser=parser, **(options | PATIENT)) as patient):

        async def ask(judge: Callable[[Served], Awaitable[str]]) -> str:
            return await judge(quick) and await judge(patient)

        yield ask


def statuses(raw: bytes) -> list[int]:
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", raw)]


@pytest.mark.parametrize("lane", ["direct", "app", "asgi"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_every_invalid_request_is_refused(
    corpus: dict[str, list[Case]], lane: str, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    judged = [case for case in corpus["invalid"] if not case.options]
    assert len(judged) >= 65

    async def judge(served: Served, case: Case) -> str:
        found = statuses(await served.ask(with_host(case.data), PATIENCE))
        return f"{case.name}: {found}" if found and found[-1] < 400 else ""

    # The corpus is made for gunicorn's own limit of a request line.
    async with judging(lane, parser, max_line=4094) as ask:
        wrong = [await ask(partial(judge, case=case)) for case in judged]
    assert not any(wrong)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("lane", ["direct", "app", "asgi"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_valid_requests_are_answered_or_refused_for_a_reason(
    corpus: dict[str, list[Case]], lane: str, parser: str
) -> None:
    async def judge(served: Served, case: Case) -> str:
        found = statuses(await served.ask(with_host(case.data), PATIENCE))
        # 404 to "OPTIONS *" is the application's own answer.
        is_refused = not found or any(status >= 400 and status != 404 for status in found)
        return f"{case.name}: {found}" if is_refused != (case.name in REFUSED) else ""

    judged = [case for case in corpus["valid"] if not case.options]
    assert {case.name for case in judged}.issuperset(REFUSED)
    async with judging(lane, parser) as ask:
        wrong = [await ask(partial(judge, case=case)) for case in judged]
    assert not any(wrong)


HOSTILE = {
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "listed host": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "userinfo host": b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "empty te": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "te list": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"
               b"0\r\n\r\n",
    "te in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te and cl": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                 b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "two cl": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "cl list": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "relative": b"GET x HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "half of http/2's preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "http/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "nul value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "bare cr": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "name space": b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "fold": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "long target": get("/" + "a" * 8190),
    "long field": get("/", "X: " + "a" * 9000),
    "many fields": get("/", *[f"X{n}: y" for n in range(101)]),
    "endless head": get("/", *[f"X{n}: {'y' * 7000}" for n in range(20)]),
    "many empty lines": b"\r\n\r\n\r\n" + get(),
}


@pytest.mark.parametrize("lane", ["direct", "app", "asgi"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_hostile_requests_are_refused(lane: str, parser: str) -> None:
    async def judge(served: Served, data: bytes) -> str:
        raw = await served.ask(data, PATIENCE)
        found = statuses(raw)
        is_right = (len(found) == 1 and found[0] >= 400 and raw.startswith(b"HTTP/1.1 ")
                    and b"Connection: close" in raw)
        return "" if is_right else repr(raw[:200])

    async with judging(lane, parser) as ask:
        wrong = {name: await ask(partial(judge, data=data)) for name, data in HOSTILE.items()}
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize("lane", ["direct", "app", "asgi"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_a_good_request_is_answered_although_garbage_follows(
    lane: str, parser: str
) -> None:
    async with serving(**everything(lane), parser=parser) as served:
        raw = await served.ask(get("/good") + b"\x16\x03garbage\r\n\r\n")
    assert statuses(raw) == [200, 400]


async def _answers(served: Served, pieces: list[bytes]) -> list[int]:
    peer = await served.connect()
    for piece in pieces:
        peer.send(piece)
        await peer.writer.drain()
    peer.writer.write_eof()
    raw = await peer.rest()
    peer.close()
    return statuses(raw)


@pytest.mark.parametrize("lane", ["direct", "app", "asgi"])
@pytest.mark.parametrize("parser", ["httptools", "aiohttp"])
async def test_split_at_every_byte(lane: str, parser: str) -> None:
    """However the bytes are cut, the answers are the same."""
    last = get("/last", "Connection: close")
    chunked = (b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nVary: *\r\n\r\n")
    data = (get("/x?y=1", "A: b") + chunked
            + b"PUT /z HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody" + last)
    async with serving(**everything(lane), parser=parser) as served:
        expected = re.sub(rb"[Dd]ate: [^\r]*", b"", await served.ask(data))
        assert statuses(expected) == [200] * 4
        for cut in range(1, len(data)):
            lane_ = served.server.stream()
            wire = Recorder()
            lane_.connection_made(wire)
            lane_.data_received(data[:cut])
            lane_.data_received(data[cut:])
            await wire.closed()
            assert re.sub(rb"[Dd]ate: [^\r]*", b"", bytes(wire.sent)) == expected, cut
            lane_.connection_lost(None)
        lane_ = served.server.stream()
        wire = Recorder()
        lane_.connection_made(wire)
        for byte in data:
            lane_.data_received(bytes([byte]))
        await wire.closed()
        assert re.sub(rb"[Dd]ate: [^\r]*", b"", bytes(wire.sent)) == expected
        lane_.connection_lost(None)


class Recorder:
    """A transport in memory."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.event = asyncio.Event()
        self.reading = True

    def write(self, data: bytes) -> None:
        self.sent += data

    def writelines(self, data: Any) -> None:
        self.sent += b"".join(data)

    def close(self) -> None:
        self.event.set()

    abort = write_eof = close

    async def closed(self) -> None:
        await asyncio.wait_for(self.event.wait(), 5)

    def is_closing(self) -> bool:
        return self.event.is_set()

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
