"""The registry of protocol plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from apihour import plugins
from apihour.errors import AdaptError, PluginError
from apihour.plugins import Registry, ServerContext, is_server


class Made:
    """A server of the right shape."""

    protocol = "made"

    def __init__(self, obj: object = None) -> None:
        self.obj = obj

    async def start(self, context: ServerContext | None = None) -> None: ...
    async def drain(self, deadline: float) -> None: ...
    async def stop(self) -> None: ...
    def statistics(self) -> Mapping[str, Any]:
        return {}

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        return asyncio.Protocol()


class Taker:
    """A plugin that accepts objects of one type on stream binds."""

    def __init__(self, name: str, kind: type, makes: Any = Made) -> None:
        self.name = name
        self.describes = f"a {kind.__name__}"
        self._kind = kind
        self._makes = makes

    def accepts(self, obj: object, kind: str) -> bool:
        return kind == "stream" and isinstance(obj, self._kind)

    def adapt(self, obj: object, kind: str) -> Any:
        return self._makes(obj)


def test_the_one_that_accepts_adapts() -> None:
    registry = Registry([Taker("text", str), Taker("number", int)])
    server = registry.adapt("hello", "stream", "http")
    assert isinstance(server, Made) and server.obj == "hello"


def test_a_server_is_taken_as_it_is() -> None:
    made = Made()
    assert Registry().adapt(made, "stream") is made
    with pytest.raises(AdaptError):
        Registry().adapt(made, "datagram")


def test_none_accepts_names_object_kind_and_who_was_asked() -> None:
    registry = Registry([Taker("text", str), Taker("number", int)])
    registry.unusable["ssh"] = "cannot be loaded"
    with pytest.raises(AdaptError) as caught:
        registry.adapt(1.5, "stream", "http")
    assert str(caught.value) == (
        "server 'http': no plugin accepts 1.5 on a stream bind; "
        "asked: number (a int); text (a str); ssh: cannot be loaded")


def test_the_kind_of_bind_takes_part() -> None:
    with pytest.raises(AdaptError, match="'x' on a datagram bind"):
        Registry([Taker("text", str)]).adapt("x", "datagram")


def test_no_plugin_at_all() -> None:
    with pytest.raises(AdaptError, match="asked: none, no plugin is installed"):
        Registry().adapt("x", "stream")


def test_two_that_accept_are_both_named() -> None:
    registry = Registry([Taker("b", str), Taker("a", object)])
    with pytest.raises(AdaptError, match=r"server 'http': 'x' is accepted by 'a' and 'b'"):
        registry.adapt("x", "stream", "http")


def test_a_missing_library_is_told_with_the_plugins_name() -> None:
    def fail(obj: object) -> None:
        raise ImportError("needs uvicorn: pip install 'apihour[asgi]'")

    with pytest.raises(AdaptError, match=r"server 'a': plugin 'asgi': needs uvicorn: pip"):
        Registry([Taker("asgi", str, fail)]).adapt("x", "stream", "a")


def test_a_plugin_that_makes_no_server_is_named() -> None:
    broken = Taker("bad", str, lambda obj: SimpleNamespace(protocol="x"))
    with pytest.raises(AdaptError, match=r"plugin 'bad' made namespace.*which lacks one of"):
        Registry([broken]).adapt("x", "stream", "a")


@pytest.mark.parametrize("missing", ["name", "describes", "accepts", "adapt"])
def test_registration_validates_before_it_stores(missing: str) -> None:
    parts: dict[str, Any] = {"name": "x", "describes": "y", "accepts": lambda obj, kind: True,
                             "adapt": lambda obj, kind: None}
    del parts[missing]
    registry = Registry()
    with pytest.raises(PluginError, match=f"'{missing}'"):
        registry.register(SimpleNamespace(**parts))  # type: ignore[arg-type]
    assert list(registry) == []


def test_a_name_is_taken_once() -> None:
    first = Taker("x", str)
    registry = Registry([first])
    with pytest.raises(PluginError, match="plugin 'x': the name is taken by"):
        registry.register(Taker("x", int))
    assert list(registry) == [first]


def test_listing_is_sorted() -> None:
    registry = Registry([Taker("b", str), Taker("a", int)])
    assert [plugin.name for plugin in registry] == ["a", "b"]


loadable = Taker("loadable", str)


def entries(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    points = [EntryPoint(name, value, plugins.GROUP) for name, value in found.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)


def test_one_that_cannot_be_loaded_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries(monkeypatch, loadable=f"{__name__}:loadable", broken="no_such_module_here:plugin")
    registry = Registry.from_entry_points()
    assert list(registry) == [loadable]
    assert "no_such_module_here" in registry.unusable["broken"]


def test_an_entry_points_name_must_be_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, other=f"{__name__}:loadable")
    with pytest.raises(PluginError, match="'loadable': its entry point is called 'other'"):
        Registry.from_entry_points()


def test_the_installed_plugins_all_load() -> None:
    registry = Registry.from_entry_points()
    assert registry.unusable == {}
    assert [plugin.name for plugin in registry] == [
        "asgi", "grpc", "http", "mux", "proxy", "ssh", "tcp", "udp", "wsgi"]


async def stream_callback(reader: Any, writer: Any) -> None: ...
async def asgi_application(scope: Any, receive: Any, send: Any) -> None: ...


def web_application() -> Any:
    from aiohttp import web

    return web.Application()


@pytest.mark.parametrize(("make", "kind", "protocol"), [
    (web_application, "stream", "http"),
    (lambda: asyncio.Protocol, "stream", "tcp"),
    (lambda: (lambda: asyncio.Protocol()), "stream", "tcp"),
    (lambda: stream_callback, "stream", "tcp"),
    (lambda: asyncio.DatagramProtocol, "datagram", "udp"),
    (lambda: asgi_application, "stream", "asgi"),
])
def test_each_kind_of_object_finds_its_plugin(make: Any, kind: Any, protocol: str) -> None:
    server = Registry.from_entry_points().adapt(make(), kind, "x")
    assert server.protocol == protocol


@pytest.mark.parametrize("obj", [None, 3, "text", object(), dict])
def test_nobody_takes_just_anything(obj: object) -> None:
    with pytest.raises(AdaptError, match="no plugin accepts"):
        Registry.from_entry_points().adapt(obj, "stream", "x")


def test_a_class_is_no_server() -> None:
    assert is_server(Made(), "stream")
    assert not is_server(Made, "stream")
