"""The names of uvicorn that apihour_asgi relies on: what fails here moved in its release."""

import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

HTTP = ("handle_websocket_upgrade", "on_response_complete", "shutdown", "connection_made")
HTTP_ATTRIBUTES = ("client", "cycle", "timeout_keep_alive_task", "access_log", "access_logger",
                   "ws_protocol_class", "transport")

# Attributes apihour_asgi adds: uvicorn must not come to use them.
OURS = ("hosting", "row", "awaiting")


async def app(scope, receive, send):
    pass


def config(**options):
    made = uvicorn.Config(app, lifespan="off", log_config=None, interface="asgi3", **options)
    made.load()
    return made


def test_config():
    made = config()
    assert {"http_protocol_class", "ws_protocol_class", "encoded_headers", "date_header",
            "timeout_keep_alive", "loaded"} <= set(vars(made))


def test_server_state():
    assert set(vars(ServerState())) == {"total_requests", "connections", "tasks",
                                        "default_headers"}


@pytest.mark.parametrize("cls", [H11Protocol, HttpToolsProtocol])
async def test_http_protocols(cls):
    made = cls(config=config(), server_state=ServerState(), app_state={})
    assert [name for name in HTTP if not callable(getattr(made, name, None))] == []
    assert [name for name in HTTP_ATTRIBUTES if not hasattr(made, name)] == []
    assert [name for name in OURS if hasattr(made, name)] == []


@pytest.mark.parametrize("cls", [H11Protocol, HttpToolsProtocol])
def test_the_upgrade_asks_the_instance_for_its_websocket_class(cls):
    assert "self.ws_protocol_class(" in inspect.getsource(cls.handle_websocket_upgrade)


async def test_websocket_protocol():
    assert config().ws_protocol_class is WebSocketsSansIOProtocol
    made = WebSocketsSansIOProtocol(config=config(), server_state=ServerState(), app_state={})
    for name in ("handshake_complete", "close_sent", "disconnected", "default_headers",
                 "send", "shutdown", "client"):
        assert hasattr(made, name), name
    assert [name for name in OURS if hasattr(made, name)] == []


@pytest.mark.parametrize("cls", [H11Protocol, HttpToolsProtocol])
def test_send_is_a_method_of_a_cycle_that_knows_whether_the_client_left(cls):
    cycle = inspect.getmodule(cls).RequestResponseCycle
    assert "self.scope, self.receive, self.send" in inspect.getsource(cycle.run_asgi)
    assert "self.disconnected = False" in inspect.getsource(cycle.__init__)
