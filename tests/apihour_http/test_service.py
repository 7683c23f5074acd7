"""What start() decided: frozen, and all that a connection has of its server."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from apihour_http import HTTPServer, Routes
from apihour_http.service import Now, Service

from .test_corpus import Recorder


async def test_a_connection_has_the_record_and_not_the_server() -> None:
    server = HTTPServer(Routes(), keepalive=3.0)
    await server.start()
    try:
        connection: Any = server.stream()
        connection.connection_made(Recorder())
        slots = {name for kind in type(connection).__mro__ for name in getattr(
            kind, "__slots__", ())}
        held = [getattr(connection, name, None) for name in slots]
        assert server not in held
        assert type(connection.service) is Service
        assert connection.service.keepalive == 3.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            connection.service.keepalive = 4.0
        connection.connection_lost(None)
        assert not server.connections
    finally:
        await server.stop()


def test_a_drain_takes_the_short_way_back() -> None:
    now = Now(quick=True)
    now.drain(5.0, 2.0)
    assert (now.draining, now.quick, now.drain_since, now.drain_linger) == (True, False, 5.0, 2.0)
