"""Applications of ASGI and WSGI under paths of a server, beside routes and aiohttp."""

import asyncio
import contextlib
import json

import pytest
from aiohttp import web
from apihour_wsgi import WSGIServer
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Routes
from tests.apihour_asgi.support import FINAL, frame, open_socket, read_frame
from tests.apihour_http.http2.support import connected
from tests.apihour_http.support import context, get, serving, wait_until

PATIENCE = 30.0


def an_api(events=None):
    async def show(request):
        scope = request.scope
        return JSONResponse({
            "root_path": scope["root_path"], "path": scope["path"],
            "raw_path": scope["raw_path"].decode(), "client": scope["client"][0],
            "scheme": scope["scheme"], "state": getattr(request.state, "up", None)})

    async def double(socket):
        await socket.accept()
        with contextlib.suppress(Exception):
            while True:
                await socket.send_text(2 * await socket.receive_text())

    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("up")
        yield {"up": "yes"}
        events.append("down")

    return Starlette(routes=[Route("/show/{x:path}", show), Route("/", show),
                             WebSocketRoute("/double", double)],
                     lifespan=None if events is None else lifespan)


def a_shop():
    shop = Flask("shop")

    @shop.route("/", defaults={"rest": ""}, methods=["GET", "POST"])
    @shop.route("/<path:rest>", methods=["GET", "POST"])
    def show(rest):
        return {"script": request.environ["SCRIPT_NAME"], "path": request.environ["PATH_INFO"],
                "remote": request.remote_addr, "body": len(request.get_data())}

    return shop


def named(name):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name + scope["root_path"].encode()})

    return ASGIServer(app, lifespan="off")


routes = Routes()


@routes.get("/hello")
def hello(request):
    return {"by": "route"}


@routes.get("/shop/special")
def special(request):
    return {"by": "route"}


def an_application():
    async def index(request):
        return web.json_response({"by": "aiohttp", "path": request.path})

    application = web.Application()
    application.router.add_get("/{rest:.*}", index)
    return application


async def ask(served, path, *fields):
    peer = await served.connect()
    peer.send(get(path, *fields))
    answer = await peer.answer(PATIENCE)
    peer.close()
    return answer


async def told(served, path, *fields):
    answer = await ask(served, path, *fields)
    assert answer.status == 200, answer
    return json.loads(answer.body)


@pytest.mark.parametrize("app", [False, True])
async def test_who_answers_what(app):
    application = an_application() if app else None
    mounts = {"/shop": a_shop(), "/api": an_api()}
    async with serving(routes, application, mounts=mounts) as served:
        for _ in range(2):
            assert await told(served, "/hello") == {"by": "route"}
            assert await told(served, "/shop/special") == {"by": "route"}
            assert await told(served, "/shop/a/b?c=d") == {
                "script": "/shop", "path": "/a/b", "remote": "127.0.0.1", "body": 0}
            assert (await told(served, "/shop/"))["path"] == "/"
            assert await told(served, "/api/show/x%20y?z") == {
                "root_path": "/api", "path": "/api/show/x y", "raw_path": "/api/show/x%20y",
                "client": "127.0.0.1", "scheme": "http", "state": None}
            for path in ("/", "/shopping", "/else", "/%73hop/x", "/x/../shop/"):
                answer = await ask(served, path)
                assert (answer.status, b"aiohttp" in answer.body) == (200 if app else 404, app)
        assert (await ask(served, "/shop")).headers["location"] == "http://test/shop/"  # Flask's
        assert (await ask(served, "http://test/shop/x")).status == 200
        assert served.server.statistics()["mounted"] == {"/shop": 6, "/api": 2}


async def test_the_longest_path_holds_and_a_slash_is_for_all_the_rest():
    async with serving(routes, mounts={
            "/a": named(b"a "), "/a/b": named(b"ab "), "/": named(b"rest ")}) as served:
        for path, said in (("/a", b"a /a"), ("/a/x", b"a /a"), ("/a/b", b"ab /a/b"),
                           ("/a/b/c", b"ab /a/b"), ("/a/bc", b"a /a"), ("/x", b"rest "),
                           ("/hello", b'{"by":"route"}')):
            assert (await ask(served, path)).body == said, path


async def test_methods_that_a_route_does_not_have_are_the_mounts_under_it_only():
    async with serving(routes, mounts={"/shop": a_shop()}) as served:
        peer = await served.connect()
        peer.send(b"POST /shop/special HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert json.loads((await peer.answer(PATIENCE)).body)["body"] == 5
        peer.send(b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert (await peer.answer(PATIENCE)).status == 405
        peer.send(b"HEAD /shop/special HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.answer(PATIENCE, head=True)).headers["content-type"].startswith(
            "application/json")
        peer.close()


async def test_one_connection_asks_all_of_them_in_order():
    paths = ["/hello", "/shop/1", "/api/show/2", "/else", "/shop/3", "/hello"] * 5
    async with serving(routes, an_application(), mounts={
            "/shop": a_shop(), "/api": an_api()}) as served:
        peer = await served.connect()
        peer.send(b"".join(map(get, paths)))
        for path in paths:
            said = json.loads((await peer.answer(PATIENCE)).body)
            assert said.get("path", "/hello").endswith(path.rpartition("/")[2]), (path, said)
        peer.close()


async def test_lifespans_websockets_and_a_drain():
    events = []
    async with serving(routes, mounts={"/api": an_api(events)}) as served:
        assert events == ["up"]
        assert (await told(served, "/api/show/"))["state"] == "yes"
        peer = await open_socket(served, "/api/double")
        peer.send(frame(FINAL | 1, b"ab"))
        assert await read_frame(peer) == (FINAL | 1, b"abab")
        draining = asyncio.ensure_future(
            served.server.drain(asyncio.get_running_loop().time() + PATIENCE))
        first, payload = await read_frame(peer)
        assert (first, payload[:2]) == (FINAL | 8, (1012).to_bytes(2, "big"))
        peer.send(frame(FINAL | 8, payload[:2]))
        await asyncio.wait_for(draining, PATIENCE)
    assert events == ["up", "down"]


async def test_a_start_that_fails_stops_what_was_started():
    events = []

    async def broken(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    server = HTTPServer(mounts={"/a": an_api(events), "/broken": ASGIServer(broken)})
    with pytest.raises(Exception, match="no"):
        await server.start()
    await server.stop()
    assert events in (["up", "down"], [])


async def test_what_a_proxy_says_holds_for_them():
    async with serving(mounts={"/api": an_api(), "/shop": a_shop()},
                       context=context(forwarded_allow_ips="127.0.0.1")) as served:
        fields = "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"
        said = await told(served, "/api/show/", *fields)
        assert (said["client"], said["scheme"]) == ("192.0.2.7", "https")
        assert (await told(served, "/shop/", *fields))["remote"] == "192.0.2.7"


async def test_what_a_proxy_has_taken_away_comes_first():
    mounts = {"/api": ASGIServer(an_api(), root_path="/x", lifespan="off"),
              "/shop": WSGIServer(a_shop(), root_path="/x")}
    async with serving(mounts=mounts) as served:
        said = await told(served, "/api/show/1")
        assert (said["root_path"], said["path"]) == ("/x/api", "/x/api/show/1")
        said = await told(served, "/shop/1")
        assert (said["script"], said["path"]) == ("/x/shop", "/1")


async def test_over_http2():
    async with serving(routes, mounts={"/shop": a_shop(), "/api": an_api()}) as served, \
            connected(served) as client:
        numbers = [client.ask(path=path) for path in ("/shop/a", "/hello", "/api/show/b", "/no")]
        replies = [await client.reply(number) for number in numbers]
        assert [reply.status for reply in replies] == [200, 200, 200, 404]
        assert json.loads(replies[0].body)["path"] == "/a"
        assert json.loads(replies[2].body)["root_path"] == "/api"


async def test_a_client_that_leaves_is_known_and_nothing_is_left():
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    left = asyncio.Event()
    async with serving(mounts={"/slow": ASGIServer(app, lifespan="off")}) as served:
        peer = await served.connect()
        peer.send(get("/slow/"))
        await wait_until(lambda: served.server.statistics()["in_flight"], PATIENCE)
        peer.close()
        await asyncio.wait_for(left.wait(), PATIENCE)
        await wait_until(lambda: not served.server.statistics()["connections"], PATIENCE)


@pytest.mark.parametrize(("mounts", "said"), [
    ({"shop": a_shop}, "mount 'shop': expected a path such as /shop"),
    ({"/shop/": a_shop}, "mount '/shop/': expected a path such as /shop, without a slash"),
    ({"/a/../b": a_shop}, "expected a path such as /shop"),
    ({"/a b": a_shop}, "expected a path such as /shop"),
    ({"/a": lambda: object()}, "expected an application of ASGI or WSGI"),
    ({"/a": an_application}, "an aiohttp application has add_subapp()"),
    (["/a"], "option mounts=['/a']: expected applications by their paths"),
])
def test_what_cannot_be_mounted_is_refused_by_name(mounts, said):
    if isinstance(mounts, dict):
        mounts = {path: make() for path, make in mounts.items()}
    with pytest.raises((TypeError, ValueError)) as caught:
        HTTPServer(mounts=mounts)
    assert said in str(caught.value)
    with pytest.raises(ValueError, match="expected no other application"):
        HTTPServer(app=an_application(), mounts={"/": a_shop()})


