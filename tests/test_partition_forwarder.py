"""The links between the hosts of ``benchmarks/partition.py`` on loopback: silent when cut."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def forwarder(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1] / "benchmarks")])
    found = importlib.import_module("partition_forwarder").Forwarder()
    found.start()
    yield found
    found.stop()


def test_a_direction_that_is_cut_carries_nothing_and_then_all(forwarder: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = forwarder.forward((0, 1), "127.0.0.1", server.getsockname())
        near = socket.create_connection(("127.0.0.1", port), timeout=30)
        far, _ = server.accept()
        with near, far:
            far.settimeout(30)
            near.sendall(b"a")
            assert far.recv(9) == b"a"
            forwarder.cut(0, 1)
            near.sendall(b"b")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(9)
            far.sendall(b"c")  # the other direction is as it was
            assert near.recv(9) == b"c"
            forwarder.join(0, 1)
            far.settimeout(30)
            assert far.recv(9) == b"b"
            near.shutdown(socket.SHUT_WR)
            assert far.recv(9) == b""


def test_what_connects_meanwhile_waits(forwarder: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = forwarder.forward((0, 1), "127.0.0.1", server.getsockname())
        forwarder.cut(1, 0)
        with socket.create_connection(("127.0.0.1", port), timeout=30):
            server.settimeout(0.3)
            with pytest.raises(TimeoutError):
                server.accept()
            forwarder.join(1, 0)
            server.settimeout(30)
            server.accept()[0].close()
