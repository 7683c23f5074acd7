"""What the asgi plugin takes, and what it refuses."""

import functools
import subprocess
import sys

import aiohttp.web
import pytest
from starlette.applications import Starlette

from apihour.plugins import Server
from apihour_asgi import ASGIServer
from apihour_asgi.adapter import plugin


async def asgi(scope, receive, send):
    pass


async def callback(reader, writer):
    pass


async def endpoint(request):
    pass


def wsgi(environ, start_response):
    pass


def asgi2(scope):
    pass


class Application:
    async def __call__(self, scope, receive, send):
        pass

    async def method(self, scope, receive, send):
        pass


@pytest.mark.parametrize(("obj", "taken"), [
    (asgi, True), (Application(), True), (Application().method, True), (Starlette(), True),
    (functools.partial(asgi), True),
    (Application, False), (callback, False), (endpoint, False), (wsgi, False), (asgi2, False),
    (aiohttp.web.Application(), False), (lambda: None, False), (None, False), ("text", False),
])
def test_accepts(obj, taken):
    assert plugin.accepts(obj, "stream") is taken
    assert plugin.accepts(obj, "datagram") is False


def test_adapt():
    server = plugin.adapt(asgi, "stream")
    assert isinstance(server, Server) and server.protocol == "asgi"
    assert plugin.adapt(server, "stream") is server


def test_refuses_what_cannot_be_called():
    with pytest.raises(TypeError, match=r"ASGIServer\('main:app'\): expected an ASGI 3"):
        ASGIServer("main:app")


@pytest.mark.parametrize(("options", "error"), [
    ({"lifespan": "sometimes"}, "option lifespan='sometimes': expected auto, on or off"),
    ({"ws_max_siz": 1}, "option 'ws_max_siz': expected one of access_log, .*write_timeout"),
    ({"max_body": 1}, "option 'max_body': expected one of"),  # it would mean nothing
    ({"budget": 0}, "option budget=0: expected at least 1"),
])
def test_refuses_options(options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        ASGIServer(asgi, **options)


def test_without_a_plugin_that_speaks_http(monkeypatch):
    monkeypatch.setattr("apihour_asgi.server.entry_points", lambda **names: [])
    with pytest.raises(ImportError, match="expected a plugin named http"):
        ASGIServer(asgi)


def test_imports():
    """No trace of the core, nor of another plugin before it is needed."""
    code = (
        "import sys, apihour_asgi, apihour_asgi.adapter as a\n"
        "async def app(scope, receive, send): pass\n"
        "assert a.plugin.accepts(app, 'stream')\n"
        "assert not {'apihour', 'apihour_http', 'websockets'} & set(sys.modules), 'too much'\n"
        "a.plugin.adapt(app, 'stream')\n"
        "assert not {'apihour', 'uvicorn', 'aiohttp', 'websockets'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
