"""uvicorn's own protocol tests, run against ASGIServer: what passes, and what does not and why.

python benchmarks/suites/uvicorn_protocol.py DIRECTORY [--theirs]

DIRECTORY is an unpacked source distribution of uvicorn; its ``tests/protocols`` are run where
they are, with our connection in place of the protocol class that their fixtures choose
(``--theirs``: with theirs, for comparison). Needs uvicorn, httpx, anyio, pytest-mock, trustme,
python-dotenv and a2wsgi beside apihour[test]. What cannot hold here, by its nature, is named in
``DIFFERENT`` with the reason; the exit status is 1 when anything else fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

import pytest

FILES = ["tests/protocols/test_http.py", "tests/protocols/test_websocket.py"]
# The one of each fixture's parameters that is run: ours has no variants.
CHOSEN = ("httptools", "websockets-sansio")
# Options of uvicorn.Config that ASGIServer has, or that mean nothing to these tests.
KNOWN = {"app", "ws", "http", "lifespan", "port", "log_config", "log_level", "root_path",
         "ws_max_size", "ws_ping_interval", "ws_ping_timeout", "ws_per_message_deflate", "host",
         "access_log", "interface"}
OTHERS = "an option of uvicorn.Config that is not there: "
DIFFERENT = {
    "keepalive_timeout": "counts the timers of a mocked loop; one timer per connection here",
    "test_request_logging": "the text of uvicorn's own log lines",
    "test_header_value_allowed_characters": "",
}


class Loop:
    """Stands in for the mocked loop of those tests: the real one, a turn at a time."""

    def __init__(self, server: Any) -> None:
        self._host = server._host

    async def run_one(self) -> None:
        """Let the call of the application that is under way come to its end."""
        for _ in range(300):
            await asyncio.sleep(0)
            if not self._host.tasks:
                return

    def run_later(self, with_delay: float) -> None:
        pytest.skip(DIFFERENT["keepalive_timeout"])


class Connection:
    """What those tests ask of a protocol, answered by one of our connections."""

    timeout_keep_alive_task = None

    def __init__(self, server: Any, transport: Any) -> None:
        self.loop = Loop(server)
        self.transport = transport
        self.server = server
        self.lane = server.stream()
        self.lane.connection_made(transport)
        self.data_received = self.lane.data_received
        self.eof_received = self.lane.eof_received
        self.connection_lost = self.lane.connection_lost

    @property
    def scope(self) -> Any:
        return self.lane.hosted.running.message

    def shutdown(self) -> None:
        self.server._http.draining = True
        self.server._http.drain_linger = 0.0
        self.lane.drain()
        self.lane._look()


def start(config: Any, state: Any = None) -> Any:
    """An ASGIServer with the options of a uvicorn.Config, started without a turn of the loop."""
    from apihour_asgi import ASGIServer

    app = config.app
    if not isinstance(app, type) and not asyncio.iscoroutinefunction(app):
        app = _awaited(app)
    server = ASGIServer(
        app, lifespan="off" if state is not None else config.lifespan,
        root_path=config.root_path, ws_max_size=config.ws_max_size,
        ws_ping_interval=config.ws_ping_interval, ws_deflate=config.ws_per_message_deflate)
    if config.ws == "none":
        server._host._websockets = None
    coroutine = server.start()
    if state is None:
        return server, coroutine
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
    server._host.state = state
    return server, None


def _awaited(app: Any) -> Any:
    async def run(scope: Any, receive: Any, send: Any) -> Any:
        return await app(scope, receive, send)

    return run


class Ours:
    """A plugin for pytest: puts our connection in place of uvicorn's protocol classes."""

    def pytest_collection_modifyitems(self, items: list[Any], config: Any) -> None:
        import tests.protocols.test_http as http  # of the suite's directory
        import tests.protocols.test_websocket as websocket

        http.get_connected_protocol = _connect(http)
        websocket.run_server = _served
        chosen, others = [], []
        for item in items:
            values = item.callspec.params if hasattr(item, "callspec") else {}
            wanted = all(any(c in str(v).replace("_", "-") for c in CHOSEN)
                         for k, v in values.items() if k.endswith("_protocol_cls"))
            (chosen if wanted else others).append(item)
        items[:] = chosen
        config.hook.pytest_deselected(items=others)


class Theirs(Ours):
    """The same tests, by uvicorn itself."""

    def pytest_collection_modifyitems(self, items: list[Any], config: Any) -> None:
        import tests.protocols.test_http as http
        import tests.protocols.test_websocket as websocket

        kept = http.get_connected_protocol, websocket.run_server
        super().pytest_collection_modifyitems(items, config)
        http.get_connected_protocol, websocket.run_server = kept


def _connect(http: Any) -> Any:
    class Transport(http.MockTransport):  # type: ignore[misc]
        """Their transport, with what ours asks of one."""

        sock = None

        def get_extra_info(self, key: Any, default: Any = None) -> Any:
            return super().get_extra_info(key)

        def write_eof(self) -> None:
            self.closed = True

        def abort(self) -> None:
            self.closed = True

        def can_write_eof(self) -> bool:
            return True

        def get_write_buffer_size(self) -> int:
            return 0

    def get_connected_protocol(app: Any, cls: Any, lifespan: Any = None, **options: Any) -> Any:
        _only_known(options)
        config = http.Config(app=app, **options)
        config.lifespan = "off"
        server, _ = start(config, lifespan.state if lifespan is not None else {})
        return Connection(server, Transport())

    return get_connected_protocol


@contextlib.asynccontextmanager
async def _served(config: Any, sockets: Any = None) -> Any:
    defaults = type(config)(app=config.app)
    for name in ("headers", "date_header", "ws_max_queue"):
        if getattr(config, name, None) != getattr(defaults, name, None):
            pytest.skip(OTHERS + name)
    server, starting = start(config)
    await starting
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server.stream, "127.0.0.1", config.port)
    try:
        yield Shut(server)
    finally:
        listener.close()
        await server.drain(loop.time() + 5)
        await server.stop()


class Shut:
    """What the tests ask of a uvicorn.Server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    async def shutdown(self) -> None:
        """As uvicorn: every connection is told to leave."""
        loop = asyncio.get_running_loop()
        await self._server.drain(loop.time() + 5)

    @property
    def server_state(self) -> Any:
        return pytest.skip("looks into uvicorn's own state")


def _only_known(options: dict[str, Any]) -> None:
    for name in options:
        if name not in KNOWN:
            pytest.skip(OTHERS + name)


def main() -> int:
    """Run the suite where it is."""
    directory, *rest = sys.argv[1:]
    os.chdir(directory)
    sys.path.insert(0, os.getcwd())
    plugin = Theirs() if "--theirs" in rest else Ours()
    rest = [one for one in rest if one != "--theirs"]
    return pytest.main(
        ["-q", "-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider",
         "-p", "no:apihour.testing.plugin", "-p", "no:asyncio", "-rfEs", "--tb=short",
         "--override-ini=markers=anyio", *(rest or []), *FILES], plugins=[plugin])


if __name__ == "__main__":
    sys.exit(main())
