"""The network shell is brought up beside the rest, and holds it up in nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ipc.runtime import Runtime
from apihour_console.faces import network
from apihour_console.faces.network import NetworkShell, load

MODULE = "front_of_a_test"


class Server:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def drain(self, deadline: float, why: str) -> None:
        self.calls.append(f"drain {deadline:g} {why}")

    async def stop(self) -> None:
        self.calls.append("stop")


class Front:
    """What stands for the module that needs the libraries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.server = Server()
        self.faults: list[Exception] = []
        self.hold = threading.Event()
        self.hold.set()
        monkeypatch.setattr(network.importlib, "import_module", self.import_module)
        monkeypatch.setattr(network, "_AGAIN", (0.01,))
        self.console: Any = SimpleNamespace(
            logger=logging.getLogger("test.network"), runtime=Runtime(tmp_path))

    def import_module(self, name: str) -> Any:
        assert name == MODULE
        self.hold.wait(30)
        if self.faults:
            raise self.faults.pop(0)
        return SimpleNamespace(start=lambda *arguments: self.server)

    def shell(self) -> NetworkShell:
        none: Any = None
        return NetworkShell(self.console, none, none, [], MODULE)


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Front:
    return Front(monkeypatch, tmp_path)


async def test_it_starts_and_ends(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    shell = front.shell()
    await shell.start()
    await shell.drain(5.0, "bye")
    await shell.stop()
    assert front.server.calls == ["drain 5 bye", "stop"]
    assert caplog.text == ""


async def test_what_keeps_it_off_is_said_once_and_tried_again(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    front.faults = [ImportError("no asyncssh")] * 3 + [OSError("read-only")] * 2
    shell = front.shell()
    await shell.start()
    async with asyncio.timeout(10):
        while shell._server is None:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == [
        f"shell: network shell off: {what}; the rest works, trying again"
        for what in ("ImportError: no asyncssh", "OSError: read-only")
    ]
    await shell.stop()
    assert front.server.calls == ["stop"]


async def test_libraries_that_hang_are_not_waited_for(
    front: Front, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_SLOW", 0.05)
    front.hold.clear()
    shell = front.shell()
    await asyncio.wait_for(shell.start(), 5)
    (record,) = caplog.records
    assert "have been loading for 0.05 s" in record.getMessage()
    await asyncio.wait_for(shell.drain(0.0, ""), 5)  # nor at the end
    await asyncio.wait_for(shell.stop(), 5)
    front.hold.set()
    assert front.server.calls == []


async def test_a_read_only_system_has_the_runtime_directory_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert await load("apihour_console.faces.front", str(tmp_path)) is sys.modules[
        "apihour_console.faces.front"]
    assert tempfile.tempdir == str(tmp_path)
