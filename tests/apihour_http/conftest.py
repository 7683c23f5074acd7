"""The loops on which connections are tested: asyncio's own, and uvloop where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

# Modules whose behaviour hangs on the transport.
BOTH = ("test_wire", "test_drain", "test_server", "test_pipelining", "test_unread", "test_stream",
        "test_sse", "test_socket", "test_files", "test_background", "test_http2_lane",
        "test_farewells", "test_half_closed", "test_http2_freed")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], Any]]:
    factories: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    name = item.module.__name__.rpartition(".")[2]
    if name in BOTH and importlib.util.find_spec("uvloop") is not None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
