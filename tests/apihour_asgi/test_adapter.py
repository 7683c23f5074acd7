"""What the asgi plugin takes, and what it says when uvicorn is missing."""

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


@pytest.mark.parametrize("code", [
    # No trace of the core, nor of uvicorn before it is needed.
    "import sys, apihour_asgi, apihour_asgi.adapter as a\n"
    "async def app(scope, receive, send): pass\n"
    "assert a.plugin.accepts(app, 'stream')\n"
    "assert not {'apihour', 'uvicorn'} & set(sys.modules), 'imported too much'\n"
    "a.plugin.adapt(app, 'stream')\n"
    "assert 'apihour' not in sys.modules",
    "import sys; sys.modules['uvicorn'] = None\n"
    "import apihour_asgi.adapter as a\n"
    "async def app(scope, receive, send): pass\n"
    "try: a.plugin.adapt(app, 'stream')\n"
    "except ImportError as error: assert \"pip install 'apihour[asgi]'\" in str(error), error\n"
    "else: raise SystemExit('no ImportError')",
], ids=["isolated", "without uvicorn"])
def test_imports(code):
    subprocess.run([sys.executable, "-c", code], check=True)
