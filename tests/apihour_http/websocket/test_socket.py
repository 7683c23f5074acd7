"""WebSocket endpoints, with the websockets client: messages, refusals, ends, limits, drain."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from apihour_http import (
    HTTPError,
    Request,
    Response,
    RouteError,
    Routes,
    WebSocket,
    WebSocketDisconnect,
)

from ..support import Served, get, serving, wait_until


def dial(served: Served, path: str = "/ws", **options: Any) -> connect:
    options.setdefault("compression", None)
    return connect(f"ws://127.0.0.1:{served.port}{path}", **options)


def echoing(**options: Any) -> Routes:
    routes = Routes()

    @routes.websocket("/ws", **options)
    async def echo(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket:
            await websocket.send(message)

    return routes


async def closed_with(peer: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as raised:
        while True:
            await asyncio.wait_for(peer.recv(), 10)
    close = raised.value.rcvd
    assert close is not None
    return close.code, close.reason


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_come_back(compression: str | None) -> None:
    async with serving(echoing()) as served:
        async with dial(served, compression=compression) as peer:
            for message in ("text", "é" * 1000, b"bytes", "", b"", "x" * 500_000):
                await peer.send(message)
                assert await asyncio.wait_for(peer.recv(), 10) == message
            assert served.server.statistics()["websockets"] == 1
            row = next(iter(served.server.connections)).activity()
            assert (row["state"], row["path"], row["route"]) == ("websocket", "/ws", "GET /ws")
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


async def test_what_the_request_says_is_there_and_json_is_read() -> None:
    routes = Routes("/v1")

    @routes.websocket("/rooms/{room:int}")
    async def room(request: Request, websocket: WebSocket) -> None:
        await websocket.accept(headers={"X-Room": str(request.match_info["room"])})
        while True:
            data = await websocket.receive_json()
            await websocket.send_json({
                "room": request.match_info["room"], "who": request.query["who"],
                "agent": request.headers["User-Agent"], "got": data})

    async with serving(routes) as served, \
            dial(served, "/v1/rooms/7?who=ada", user_agent_header="tester") as peer:
        assert peer.response is not None and peer.response.headers["X-Room"] == "7"
        await peer.send('{"a": [1]}')
        assert await peer.recv() == (
            '{"room":7,"who":"ada","agent":"tester","got":{"a":[1]}}')
        await peer.send("no json")
        assert await closed_with(peer) == (1007, "expected JSON")


async def test_subprotocols_are_agreed_on() -> None:
    async with serving(echoing(subprotocols=["chat.v2", "chat.v1"])) as served:
        for offered, agreed in ((["chat.v1", "chat.v2"], "chat.v2"), (["other"], None), ([], None)):
            async with dial(served, subprotocols=offered or None) as peer:
                assert peer.subprotocol == agreed


async def refused_with(served: Served, path: str, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as raised:
        async with dial(served, path, **options):
            pass
    return raised.value.response


async def test_until_it_is_accepted_it_is_answered_like_any_request() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    routes = Routes()

    @routes.websocket("/{how}")
    async def endpoint(request: Request, websocket: WebSocket) -> Any:
        how = request.match_info["how"]
        if how == "raise":
            raise HTTPError(404, "no such room")
        if how == "fail":
            raise ValueError("boom")
        if how == "redirect":
            return Response(307, {"Location": "/other"})
        return {"how": how} if how == "data" else None

    async with serving(routes) as served:
        raw = await served.ask(upgrade("/redirect"))  # the client would follow it
        assert raw.startswith(b"HTTP/1.1 307 ") and b"location: /other" in raw.lower()
        for how, status in (("raise", 404), ("fail", 500), ("data", 403), ("nothing", 403)):
            answer = await refused_with(served, f"/{how}")
            assert answer.status_code == status
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert len(told) == 1 and isinstance(told[0]["exception"], ValueError)
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


def upgrade(path: str, *lines: str, version: str = "1.1") -> bytes:
    return get(path, "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *lines, version=version)


async def test_middlewares_and_handlers_stand_before_it() -> None:
    seen: list[int] = []
    routes = Routes()

    @routes.middleware
    async def authenticate(request: Request, call: Callable[[Request], Any]) -> Any:
        if "Authorization" not in request.headers:
            raise HTTPError(401)
        answer = await call(request)
        seen.append(answer.status)
        return answer

    @routes.exception_handler(LookupError)
    def missing(request: Request, error: LookupError) -> Response:
        return Response(404, None, "missing")

    @routes.websocket("/{room}")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        if request.match_info["room"] == "none":
            raise LookupError
        await websocket.accept()
        await websocket.send("hello")

    async with serving(routes) as served:
        assert (await refused_with(served, "/a")).status_code == 401
        known = {"Authorization": "me"}
        answer = await refused_with(served, "/none", additional_headers=known)
        assert (answer.status_code, answer.body) == (404, b"missing")
        async with dial(served, "/a", additional_headers=known) as peer:
            assert await peer.recv() == "hello"
            assert await closed_with(peer) == (1000, "")
        await wait_until(lambda: len(seen) == 2)
        assert seen[0] == 404


async def test_what_is_no_handshake_is_answered_426_or_400() -> None:
    async with serving(echoing()) as served:
        peer = await served.connect()
        for raw in (get("/ws"), get("/ws", "Connection: upgrade", "Upgrade: h2c")):
            peer.send(raw)
            answer = await peer.answer()
            assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
        peer.close()
        for wrong in (upgrade("/ws").replace(b"Version: 13", b"Version: 8"),
                      upgrade("/ws").replace(b"AAAA==", b"")):
            assert (await served.ask(wrong)).startswith(b"HTTP/1.1 400 ")
        assert b" 426 " in await served.ask(upgrade("/ws", version="1.0"))
        assert b" 405 " in await served.ask(
            upgrade("/ws", "Connection: close").replace(b"GET", b"POST"))


async def test_how_it_ends_is_what_receive_says() -> None:
    ends: list[tuple[int, str]] = []
    routes = Routes()

    @routes.websocket("/ws")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        for _ in range(2):  # and again the same
            try:
                await websocket.receive()
            except WebSocketDisconnect as end:
                ends.append((end.code, end.reason))
        with pytest.raises(WebSocketDisconnect):
            await websocket.send("late")
        await websocket.close()

    async with serving(routes) as served:
        async with dial(served) as peer:
            await peer.close(4000, "enough")
        await wait_until(lambda: len(ends) == 2)
        assert ends == [(4000, "enough")] * 2
        async with dial(served) as peer:
            peer.transport.abort()
        await wait_until(lambda: len(ends) == 4)
        assert ends[2][0] == 1006


async def test_an_endpoint_that_fails_closes_with_a_code() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
    errors: dict[str, BaseException] = {
        "fail": ValueError("boom"), "refuse": HTTPError(403), "leave": WebSocketDisconnect(1000)}
    routes = Routes()

    @routes.websocket("/{how}")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        raise errors[request.match_info["how"]]

    async with serving(routes) as served:
        for how, code in (("fail", 1011), ("refuse", 1008), ("leave", 1000)):
            async with dial(served, f"/{how}") as peer:
                assert (await closed_with(peer))[0] == code
    assert [type(one["exception"]) for one in told] == [ValueError]


async def test_misuse_in_an_endpoint_is_told() -> None:
    told: list[str] = []
    routes = Routes()

    @routes.websocket("/ws")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        for early in (websocket.receive(), websocket.send("x"), websocket.close()):
            with pytest.raises(RuntimeError, match=r"await websocket.accept\(\) before"):
                await early
        with pytest.raises(ValueError, match="control characters"):
            await websocket.accept(headers={"X": "a\nb"})
        await websocket.accept()
        with pytest.raises(RuntimeError, match="expected one"):
            await websocket.accept()
        with pytest.raises(TypeError, match=r"send\(5\): expected str or bytes"):
            await websocket.send(5)  # type: ignore[arg-type]
        for code in (0, 999, 1005, 1006, 1015, 2999, 5000):
            with pytest.raises(ValueError, match=rf"close\({code}\)"):
                await websocket.close(code)
        with pytest.raises(ValueError, match="at most 123 bytes"):
            await websocket.close(1000, "é" * 62)
        told.append("all")
        await websocket.close(4999, "é" * 61)

    async with serving(routes) as served, dial(served) as peer:
        assert await closed_with(peer) == (4999, "é" * 61)
        assert told == ["all"]


async def test_a_message_over_the_limit_ends_it() -> None:
    async with serving(echoing(max_size=1000)) as served:
        for compression in (None, "deflate"):
            async with dial(served, compression=compression) as peer:
                await peer.send("x" * 1000)
                assert await peer.recv() == "x" * 1000
                await peer.send("x" * 1001)
                assert (await closed_with(peer))[0] == 1009


async def test_a_silent_client_is_gone() -> None:
    async with serving(echoing(ping_interval=0.1)) as served:
        peer = await served.connect()
        peer.send(upgrade("/ws"))
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
        rest = await peer.rest(10)
        assert rest.startswith(b"\x89\x00") and b"\x03\xf3" in rest  # a ping, then 1011
        peer.close()
        async with dial(served) as living:  # which answers pings
            await asyncio.sleep(0.5)
            await living.send("still here")
            assert await living.recv() == "still here"


async def test_max_in_flight_counts_open_ones() -> None:
    async with serving(echoing(max_in_flight=1)) as served:
        async with dial(served):
            answer = await refused_with(served, "/ws")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        await wait_until(lambda: served.server.statistics()["connections"] == 0)
        async with dial(served) as peer:
            await peer.send("x")
            assert await peer.recv() == "x"


async def test_a_drain_closes_with_1012_and_waits_for_the_endpoint() -> None:
    ends: list[int] = []
    routes = Routes()

    @routes.websocket("/ws")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        except WebSocketDisconnect as end:
            await asyncio.sleep(0.2)
            ends.append(end.code)

    async with serving(routes, linger=0.1) as served, dial(served) as peer:
        loop = asyncio.get_running_loop()
        drain = loop.create_task(served.server.drain(loop.time() + 20))
        assert await closed_with(peer) == (1012, "service restart")
        await asyncio.wait_for(drain, 10)
        assert ends == [1012]


async def test_beside_an_application_and_behind_its_requests() -> None:
    app = web.Application()

    async def hosted(request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(text="hosted")

    app.router.add_get("/app", hosted)
    async with serving(echoing(), app) as served:
        peer = await served.connect()
        frame = b"\x81\x82\0\0\0\0hi"
        peer.send(get("/app") + upgrade("/ws") + frame)
        assert (await peer.answer()).body == b"hosted"
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
        assert await peer.reader.readexactly(4) == b"\x81\x02hi"
        peer.writer.transport.abort()
        await wait_until(lambda: served.server.statistics()["connections"] == 0)


@pytest.mark.parametrize(("options", "message"), [
    ({"timeout": 5}, "option 'timeout': expected one of max_in_flight, max_size, ping_interval, "
     "subprotocols"),
    ({"max_size": 0}, "max_size=0: expected bytes"), ({"max_size": "1k"}, "expected bytes"),
    ({"ping_interval": -1}, "ping_interval=-1: expected seconds"),
    ({"subprotocols": "chat"}, "subprotocols='chat': expected a list of texts"),
    ({"subprotocols": [5]}, "expected a list of texts"),
    ({"max_in_flight": 0}, "max_in_flight=0: expected"),
])
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteError) as raised:
        Routes().websocket("/ws", **options)
    assert message in str(raised.value) and "route GET /ws" in str(raised.value)


def test_functions_that_are_refused() -> None:
    def plain(request: Any, websocket: Any) -> None: ...

    async def one(websocket: Any) -> None: ...

    for function in (plain, one):
        with pytest.raises(RouteError, match=r"expected async def .*\(request, websocket\)"):
            Routes().websocket("/ws")(function)
    routes = Routes()
    routes.get("/ws")(lambda request: None)

    async def both(request: Any, websocket: Any) -> None: ...

    with pytest.raises(RouteError, match="declared twice"):
        routes.websocket("/ws")(both)


async def test_a_missing_library_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "websockets" else find(name))
    with pytest.raises(ImportError, match=r"GET /ws is a WebSocket.*pip install 'apihour\[asgi\]'"):
        async with serving(echoing()):
            pass


@pytest.mark.parametrize("accepts", [True, False])
async def test_one_that_waits_elsewhere_is_cancelled_where_that_was_asked_for(
    accepts: bool,
) -> None:
    """A feed that is quiet neither sends nor receives: nothing else tells it."""
    log: list[str] = []
    routes = Routes()

    @routes.websocket("/ws", max_in_flight=1)
    async def feed(request: Request, websocket: WebSocket) -> None:
        log.append("begun")
        if accepts:
            await websocket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("done")

    async with serving(routes, cancel_on_disconnect=True) as served:
        for count in (1, 2):  # the first does not count any more
            peer = await served.connect()
            peer.send(upgrade("/ws"))
            await wait_until(lambda count=count: log.count("begun") == count)
            if accepts:
                assert (await peer.answer()).status == 101
            peer.writer.transport.abort()
            await wait_until(lambda count=count: log.count("done") == count)
        assert log == ["begun", "done"] * 2
        await wait_until(lambda: served.server.statistics()["in_flight"] == 0)


async def test_a_redirect_of_aiohttp_means_what_it_says() -> None:
    routes = Routes()

    @routes.websocket("/ws")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        raise web.HTTPFound("/login")

    async with serving(routes) as served:
        raw = await served.ask(upgrade("/ws"))
        assert raw.startswith(b"HTTP/1.1 302 ") and b"location: /login" in raw.lower()


async def test_what_is_sent_too_late_hears_how_it_ended() -> None:
    ends: list[tuple[int, str]] = []
    routes = Routes()

    @routes.websocket("/ws")
    async def endpoint(request: Request, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send("tick")
                await asyncio.sleep(0.01)
        except WebSocketDisconnect as end:
            assert type(end.code) is int
            ends.append((end.code, end.reason))

    async with serving(routes) as served:
        async with dial(served) as peer:
            await peer.close(4000, "enough")
        await wait_until(lambda: len(ends) == 1)
        peer2 = await served.connect()
        peer2.send(upgrade("/ws"))
        await peer2.answer()
        peer2.send(b"\x88\x80\0\0\0\0")  # a close frame without a code
        await wait_until(lambda: len(ends) == 2)
        peer2.close()
        async with dial(served) as peer:
            peer.transport.abort()
        await wait_until(lambda: len(ends) == 3)
        assert ends == [(4000, "enough"), (1005, ""), (1006, "")]
