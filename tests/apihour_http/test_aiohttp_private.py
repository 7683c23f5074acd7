"""The private names of aiohttp that the full lane uses are where they were."""

from __future__ import annotations

import inspect

import aiohttp
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import DeflateBuffer, HttpRequestParser, RawRequestMessage
from aiohttp.web_protocol import RequestHandler

WHERE = f"aiohttp {aiohttp.__version__} moved it: see apihour_http/aiohttp/private.py"


@pytest.mark.parametrize("name", [
    "_request_factory", "_request_handler", "_task_handler", "_close", "_force_close",
    "_payload_parser", "_tcp_keepalive",
])
def test_slots_of_the_request_handler(name: str) -> None:
    assert name in RequestHandler.__slots__, WHERE


def test_methods_and_their_parameters() -> None:
    parameters = list(inspect.signature(RequestHandler._handle_request).parameters)
    assert parameters == ["self", "request", "start_time", "request_handler"], WHERE
    assert list(inspect.signature(RequestHandler.handle_error).parameters) == [
        "self", "request", "status", "exc", "message"], WHERE
    assert list(inspect.signature(RequestHandler.set_parser).parameters)[:2] == [
        "self", "parser"], WHERE
    for name in ("connection_lost", "force_close", "data_received", "log_debug"):
        assert callable(getattr(RequestHandler, name)), WHERE
    for name in ("pause_reading", "resume_reading", "pause_writing", "resume_writing"):
        assert callable(getattr(BaseProtocol, name)), WHERE
    assert "_reading_paused" in BaseProtocol.__slots__, WHERE
    assert inspect.iscoroutinefunction(web.BaseRequest._prepare_hook), WHERE
    assert "_task" in web.BaseRequest.ATTRS, WHERE
    assert list(inspect.signature(DeflateBuffer.feed_data).parameters) == [
        "self", "chunk", "size"], WHERE


def test_the_websocket_response() -> None:
    websocket = web.WebSocketResponse()
    for name in ("_writer", "_reader", "_closing"):
        assert hasattr(websocket, name), WHERE
    assert list(inspect.signature(websocket._set_closed).parameters) == [], WHERE


async def test_attributes_of_servers_and_applications() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response()

    server = web.Server(handler, debug=True)
    assert server._kwargs == {"debug": True}, WHERE
    app, child = web.Application(), web.Application()
    app.add_subapp("/x", child)
    assert app._subapps == [child], WHERE
    assert web.Application(handler_args={"debug": True})._handler_args == {"debug": True}, WHERE
    assert server.handler_cancellation is False, WHERE


def test_messages_and_parser() -> None:
    fields = "method path version headers raw_headers should_close compression upgrade chunked url"
    values = ["GET", "/", 2, 3, 4, 5, 6, 7, 8, 9]
    message = RawRequestMessage(*values)  # type: ignore[arg-type]
    assert [getattr(message, name) for name in fields.split()] == values, WHERE
    assert HttpRequestParser.__module__ == "aiohttp._http_parser", "the C parser is not installed"
