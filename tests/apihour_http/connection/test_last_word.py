"""Clients that have reset their connection by the time it is half closed."""

import errno

import pytest

from apihour_http import HTTPServer, Routes
from apihour_http.connection.last_word import end_writing
from tests.apihour_http.speed.streams import Wire


class Reset(Wire):
    """What asyncio's own transport does where the kernel knows of a reset, and nobody read it."""

    resumed = 0

    def write_eof(self):
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def resume_reading(self):
        self.resumed += 1

    def set_protocol(self, protocol):
        self.protocol = protocol


class Closed(Wire):
    """One that cannot be half closed, as with TLS."""

    def can_write_eof(self):
        return False


def test_whether_it_was_said():
    assert end_writing(Wire()) and end_writing(Reset()) and not end_writing(Closed())


@pytest.mark.parametrize("data", [
    b"no request\r\n\r\n", b"GET / HTTP/1.1\r\nHost: t\r\n\r\nno request\r\n\r\n"])
async def test_a_refusal_to_one_that_is_gone_is_no_failure(data, caplog):
    routes = Routes()
    routes.get("/")(lambda request: "x")
    server = HTTPServer(routes, http2=False)
    await server.start()
    lane, wire = server.stream(), Reset()
    lane.connection_made(wire)
    lane.data_received(data)
    assert lane.state.name == "DISCARDING"
    lane.connection_lost(None)
    await server.stop()
    assert not caplog.records


async def test_nor_is_a_goodbye_over_http2(caplog):
    server = HTTPServer(Routes(), http2=True)
    await server.start()
    lane, wire = server.stream(), Reset()
    lane.connection_made(wire)
    lane.data_received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"no frame" * 9)
    assert b"\x07" in wire.sent and wire.resumed and wire.is_open
    wire.protocol.connection_lost(None)
    await server.stop()
    assert not caplog.records
