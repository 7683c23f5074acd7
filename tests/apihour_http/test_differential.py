"""Against aiohttp's own parser: whatever both accept, both understand alike."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp.http_parser import HttpRequestParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apihour_http import HTTPServer, Request, Routes

from .test_corpus import Recorder

TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=8)
VALUE = st.text("abc XYZ,;=\"/é\t019", max_size=12).map(str.strip)
METHOD = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
TARGET = st.text("abc/%20?&=+-.~;:@!$'()*,#", max_size=20).map(lambda t: "/" + t)
SPECIAL = st.sampled_from([
    "Connection: close", "Connection: keep-alive", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Content-Length: 3", "Content-Length: +3", "Host: other",
    "Upgrade: h2c", "Expect: 100-continue", "TE: trailers", "Cookie: a=b",
])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, mostly right; then some bytes of it changed."""
    lines = [f"{draw(METHOD)} {draw(TARGET)} HTTP/{draw(st.sampled_from(['1.1', '1.0']))}"]
    lines.append("Host: test")
    lines += [f"X-{name}: {value}" for name, value in draw(
        st.lists(st.tuples(TOKEN, VALUE), max_size=4))]
    lines += draw(st.lists(SPECIAL, max_size=2))
    body = draw(st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n"]))
    if body == b"abc":
        lines.append("Content-Length: 3")
    elif body:
        lines.append("Transfer-Encoding: chunked")
    data = bytearray("\r\n".join([*lines, "", ""]).encode() + body)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)),
                                     max_size=2)):
        if data and draw(st.booleans()):
            data[place % len(data)] = byte
    return bytes(data)


class _Reading:
    _reading_paused = False

    def pause_reading(self) -> None:
        raise AssertionError("a small body")

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        return None


async def by_aiohttp(data: bytes) -> tuple[Any, ...] | None:
    """What aiohttp understands of the first message, None when it refuses or waits."""
    protocol: Any = _Reading()
    # One message at a time: garbage after a good one is not its fault.
    parser = HttpRequestParser(
        protocol, asyncio.get_running_loop(), 2**16, max_msg_queue_size=1)
    try:
        messages, _, _ = parser.feed_data(data)
    except Exception:
        return None
    if not messages:
        return None
    message, payload = messages[0]
    if not payload.is_eof():
        return None
    headers = [(n, v.rstrip(b" \t")) for n, v in message.raw_headers]
    return message.method, message.path.partition("#")[0], headers, payload.read_nowait()


async def by_lane(data: bytes, cuts: list[int]) -> tuple[tuple[Any, ...] | None, bytes]:
    """What an endpoint is given for the first message, and all that is answered."""
    seen: list[tuple[Any, ...]] = []
    routes = Routes()

    def answer(request: Request) -> dict[str, int]:
        fields = [(n, v.rstrip(b" \t")) for n, v in request.raw_headers]
        path = request.path_qs.partition("#")[0]
        seen.append((request.method, path, fields, request.body))
        return {}

    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"):
        routes.route(method, "/{rest:path}")(answer)
    server = HTTPServer(routes, parser="httptools")
    await server.start()
    lane, wire = server.stream(), Recorder()
    lane.connection_made(wire)  # type: ignore[arg-type]
    start = 0
    for cut in [*sorted({c % (len(data) + 1) for c in cuts}), len(data)]:
        if cut > start and not wire.is_closing():
            lane.data_received(data[start:cut])
            start = cut
    await asyncio.sleep(0)
    lane.connection_lost(None)
    await server.stop()
    return (seen[0] if seen else None), bytes(wire.sent)


@settings(max_examples=250, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])
@given(requests(), st.lists(st.integers(0, 400), max_size=5))
def test_the_lane_is_never_laxer_than_aiohttp(data: bytes, cuts: list[int]) -> None:
    async def compare() -> None:
        theirs = await by_aiohttp(data)
        ours, answers = await by_lane(data, [])
        cut_ours, cut_answers = await by_lane(data, cuts)
        assert ours == cut_ours
        assert answers.count(b"HTTP/1.1 ") == cut_answers.count(b"HTTP/1.1 ")
        if ours is not None:
            assert theirs is not None, "accepted by the lane, refused by aiohttp"
            assert ours == theirs

    asyncio.run(compare())
