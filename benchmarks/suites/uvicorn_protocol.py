"""uvicorn's own protocol tests, run against ASGIServer: what passes, and what does not and why.

python benchmarks/suites/uvicorn_protocol.py DIRECTORY [--theirs]

DIRECTORY is an unpacked source distribution of uvicorn; its ``tests/protocols`` are run where
they are, with our connection in place of the protocol class that their fixtures choose
(``--theirs``: with theirs, for comparison). Needs uvicorn, httpx2, anyio, pytest-mock, trustme,
python-dotenv and a2wsgi beside apihour[test]. What cannot hold here, by its nature, is named in
``DIFFERENT`` with the reason; the exit status is 1 when anything else fails, or one of these
does not any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from time import monotonic
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
TIMERS = "counts the timers of a mocked loop; here a connection has one timer"
LINES = "the text of uvicorn's own log lines"
WHOLE = ("nothing is sent before the first body message (ASGI): what fails before it is "
         "answered 500, where uvicorn ends a connection without an answer")
KEPT = "the answer was complete: it is logged as an error, and the connection goes on"
REASON = "our websocket.disconnect has the key reason, as ASGI 2.3 says"
LIMITS = "a field is 8190 bytes long at most here, then 431"
OWN = "of the header that uvicorn adds, Server"
DIFFERENT = {
    "test_invalid_header_name": WHOLE,
    "test_response_header_splitting": WHOLE,
    "test_partial_response_returned": WHOLE,
    "test_duplicate_start_message": WHOLE,
    "test_request_logging": LINES,
    "test_unsupported_ws_upgrade_request_warn_on_auto": LINES,
    "test_header_upgrade_is_not_websocket_depend_installed": LINES,
    "test_header_upgrade_is_websocket_depend_not_installed": LINES,
    "test_keepalive_timeout_with_pipelined_requests": TIMERS,
    "test_message_after_body_complete": KEPT,
    "test_value_returned": KEPT,
    "test_100_continue_sent_when_body_consumed":
        "the body is there already: no 100 is sent (RFC 9110 10.1.1)",
    "test_scopes": "spec_version is 2.4, send() raises an OSError when the client has left",
    "test_invalid_http_request": "400 with a problem document that names the fault",
    "test_huge_headers_h11protocol_failure": LIMITS,
    "test_huge_headers_httptools_will_pass": LIMITS,
    "test_huge_headers_httptools": LIMITS,
    "test_httptools_http10_keep_alive_disabled": "HTTP/1.0 may ask for keep-alive",
    "test_duplicate_handshake": "an application that raises closes with 1011, not without a word",
    "test_asgi_return_value": "an application that returns closes with 1000",
    "test_close_transport_on_asgi_return": "an application that returns closes with 1000",
    "test_connection_lost_before_handshake_complete": REASON,
    "test_send_close_on_server_shutdown": REASON,
    "test_server_reject_connection": REASON,
    "test_server_reject_connection_with_response": REASON,
    "test_server_reject_connection_with_multibody_response": REASON,
    "test_server_reject_connection_with_body_nolength": "fails with uvicorn, too: no wsproto",
    "test_default_server_headers": OWN,
    "test_multiple_server_header": OWN,
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
        pytest.skip(TIMERS)


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
        return self.lane.hosted.running.scope

    def shutdown(self) -> None:
        self.server._http.now.drain(monotonic(), 0.0)
        self.lane.drain()
        self.lane.deadlines.look()


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
        for item in items:
            reason = DIFFERENT.get(item.originalname)
            if reason is not None and type(self) is Ours:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
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
