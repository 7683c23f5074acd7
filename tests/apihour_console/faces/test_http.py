from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apihour.ipc.scoreboard import Figure
from apihour_console.faces.http import HealthServer
from apihour_console.fleet.metrics import FleetMeter
from tests.apihour_console.fleet.test_metrics import Asked


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
async def address(asked: Asked) -> AsyncIterator[tuple[str, int]]:
    asked.worker(1, os.getpid())
    sock = socket.create_server(("127.0.0.1", 0))
    server = HealthServer(asked.census, FleetMeter(asked), logging.getLogger("health"))
    await server.start(sock)
    yield sock.getsockname()
    await server.stop()


async def send(address: tuple[str, int], data: bytes) -> tuple[int, str, str]:
    """Status, head and body of the answer; status 0: closed without one."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    text = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    head, _, body = text.partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, head, body


async def test_livez_readyz_and_metrics(asked: Asked, address: tuple[str, int]) -> None:
    for path, said in (("/livez", "alive"), ("/readyz", "ready: 1 of 1"),
                       ("/metrics?x=1", "# TYPE apihour_up gauge")):
        status, head, body = await send(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status == 200 and said in body
        assert f"Content-Length: {len(body.encode())}" in head and "Connection: close" in head
    asked.board.set_figure(Figure.UNREADY, 1)
    status, _, body = await send(address, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert status == 503 and body.startswith("not ready")


@pytest.mark.parametrize(("request_", "status"), [
    (b"HEAD /livez HTTP/1.1\r\n\r\n", 200),
    (b"GET /other HTTP/1.1\r\n\r\n", 404),
    (b"POST /livez HTTP/1.1\r\n\r\n", 405),
    (b"rubbish\r\n\r\n", 400),
    (b"\x16\x03\x01\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431),
])
async def test_other_requests(address: tuple[str, int], request_: bytes, status: int) -> None:
    got, _, body = await send(address, request_)
    assert got == status
    assert not request_.startswith(b"HEAD") or body == ""


async def test_connections_are_limited(address: tuple[str, int]) -> None:
    held = [await asyncio.open_connection(*address) for _ in range(64)]
    assert (await send(address, b""))[0] == 0
    for _, writer in held:
        writer.close()
    async with asyncio.timeout(10):
        while (await send(address, b"GET /livez HTTP/1.1\r\n\r\n"))[0] != 200:
            pass
