"""What shape a callable has, and which of the two plugins takes it."""

import asyncio
import functools
import subprocess
import sys

import pytest

from apihour.plugins import Server
from apihour_tcp import TCPServer, UDPServer
from apihour_tcp.adapter import datagram_plugin, plugin
from apihour_tcp.factories import classify, promises


class Stream(asyncio.Protocol):
    pass


class Buffered(asyncio.BufferedProtocol):
    pass


class BaseStream(asyncio.BaseProtocol):
    def data_received(self, data):
        pass


class BaseDatagram(asyncio.BaseProtocol):
    def datagram_received(self, data, peer):
        pass


class Both(BaseStream, BaseDatagram):
    pass


class Duck:
    def connection_made(self, transport):
        pass

    def data_received(self, data):
        pass


class Session:
    """asyncssh's sessions have methods of these names, with other arguments."""

    def connection_made(self, channel):
        pass

    def data_received(self, data, datatype):
        pass


class Needy(asyncio.Protocol):
    def __init__(self, container):
        self.container = container


class Datagram(asyncio.DatagramProtocol):
    pass


class Service:
    async def connected(self, reader, writer):
        pass

    def make(self):
        return Stream()


async def callback(reader, writer):
    pass


async def asgi(scope, receive, send):
    pass


async def endpoint(request):
    pass


async def nothing():
    pass


class ASGI:
    async def __call__(self, scope, receive, send):
        pass


class AppServer:
    """Like aiohttp.web.Server: calling it makes a protocol, but it is a framework's."""

    def __call__(self):
        return Stream()


def wsgi(environ, start_response):
    return []


@pytest.mark.parametrize(("obj", "shape"), [
    (Stream, "stream"), (Buffered, "stream"), (functools.partial(Needy, 1), "stream"),
    (BaseStream, "stream"), (BaseDatagram, "datagram"), (Both, "factory"), (Duck, "stream"),
    (Session, None), (asyncio.BaseProtocol, None), (asyncio.SubprocessProtocol, None),
    (Datagram, "datagram"), (callback, "callback"), (Service().connected, "callback"),
    (functools.partial(asgi, {}), "callback"), (lambda: Stream(), "factory"),
    (Service().make, "factory"), (lambda loop=None: Stream(), "factory"),
    (Needy, None), (asgi, None), (endpoint, None), (nothing, None), (ASGI(), None), (ASGI, None),
    (AppServer(), None), (wsgi, None), (Service, None), (object(), None), (None, None),
    ("text", None), (3, None), (asyncio, None), (int, None), (lambda *, key: Stream(), None),
])
def test_classify(obj, shape):
    assert classify(obj) == shape
    assert plugin.accepts(obj, "stream") == (shape in ("stream", "callback", "factory"))
    assert datagram_plugin.accepts(obj, "datagram") == (shape in ("datagram", "factory"))
    assert not plugin.accepts(obj, "datagram")
    assert not datagram_plugin.accepts(obj, "stream")


def test_adapt_makes_servers():
    server = plugin.adapt(Stream, "stream")
    assert isinstance(server, Server) and server.protocol == "tcp"
    assert plugin.adapt(server, "stream") is server
    datagram = datagram_plugin.adapt(Datagram, "datagram")
    assert isinstance(datagram, Server) and datagram.protocol == "udp"
    assert datagram_plugin.adapt(datagram, "datagram") is datagram


def annotated() -> Stream:
    return Stream()


def misleading() -> "no_such_name":  # type: ignore  # noqa: F821
    return Stream()


@pytest.mark.parametrize(("factory", "kind", "known"), [
    (Stream, "stream", True), (Stream, "datagram", False), (Both, "datagram", True),
    (functools.partial(Needy, 1), "stream", True), (annotated, "stream", True),
    (misleading, "stream", False), (lambda: Stream(), "stream", False),
])
def test_what_is_known_of_a_factory_without_calling_it(factory, kind, known):
    assert promises(factory, kind) is known


@pytest.mark.parametrize("wrong", [Datagram, Needy, asgi, wsgi, endpoint, 3])
def test_tcp_server_refuses(wrong):
    with pytest.raises(TypeError, match=r"TCPServer\(.*expected an asyncio.Protocol class"):
        TCPServer(wrong)


@pytest.mark.parametrize("wrong", [Stream, callback, asgi, 3])
def test_udp_server_refuses(wrong):
    with pytest.raises(TypeError, match=r"UDPServer\(.*expected an asyncio.DatagramProtocol"):
        UDPServer(wrong)


def test_no_trace_of_the_core():
    code = (
        "import sys, apihour_tcp, apihour_tcp.adapter\n"
        "assert 'apihour' not in sys.modules, 'apihour was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
