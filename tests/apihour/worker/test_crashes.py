"""Exceptions that reach nobody are told with worker, server and peer, on both loops."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import open_listeners
from apihour.config import failures
from apihour.config.failures import show_warning
from apihour.ipc.signals import EarlyExit
from apihour.plugins import ServerContext
from apihour.worker.accept import Acceptor
from apihour.worker.connections import ConnectionTable
from apihour.worker.crashes import CrashLog, listens_at
from apihour.worker.failing import Failures
from apihour.worker.serving import Serving
from apihour_http import HTTPServer, Routes
from apihour_tcp import TCPServer, UDPServer
from tests.apihour_tcp.minicore import until


class Stream(asyncio.Protocol):
    """Fails where the class attribute says."""

    where = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.kept = transport
        if self.where == "made":
            raise RuntimeError("in made")

    def data_received(self, data: bytes) -> None:
        if self.where == "data":
            raise RuntimeError("in data")
        if self.where == "soon":
            asyncio.get_running_loop().call_soon(self.soon)

    def soon(self) -> None:
        raise RuntimeError("in soon")

    def connection_lost(self, error: Exception | None) -> None:
        if self.where == "lost":
            raise RuntimeError("in lost")


class Datagram(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, address: Any) -> None:
        raise RuntimeError("in datagram")


def make() -> tuple[Any, CrashLog]:
    worker: Any = SimpleNamespace(name="1.1", servers={}, connections=ConnectionTable("1.1"))
    return worker, CrashLog(worker, logging.getLogger("test.crashes"))


def watch(log: CrashLog) -> Failures:
    """What tells that log of failures."""
    found = Failures(None, logging.getLogger())
    found._made = log
    return found


async def accept(worker: Any, server: Any, url: str) -> Any:
    """Serve as a worker does; returns the listener."""
    (listener,) = open_listeners([("srv", parse_address(url), 0)], 5, {}, 0, (0, 0))
    serving = Serving("srv", server, [listener])
    worker.servers["srv"] = serving
    await serving.accept(worker.connections, asyncio.get_running_loop(),
                         logging.getLogger("test.crashes"), None, 0, 1, {}, Path())
    return listener


@pytest.mark.parametrize("where", ["made", "data", "soon", "lost"])
async def test_a_protocol_is_told_with_its_server_and_peer(
    where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "where", where)
    worker, log = make()
    watch(log).install_in_loop(asyncio.get_running_loop())
    listener = await accept(worker, TCPServer(Stream), "127.0.0.1:0")
    _, writer = await asyncio.open_connection(*listener.getsockname())
    mine = writer.get_extra_info("sockname")[1]
    writer.write(b"x")
    await asyncio.sleep(0)
    if where == "lost":
        writer.close()
    await until(lambda: caplog.records)
    writer.close()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"Worker 1.1: server 'srv': 127.0.0.1:{mine}: {__file__}:")
    assert record.getMessage().endswith(f"RuntimeError: in {where}")
    assert record.exc_info is not None
    worker.servers["srv"].stop_accepting()
    await worker.servers["srv"].stop()
    await until(lambda: not len(worker.connections))


async def test_a_datagram_is_told_with_its_sender(caplog: pytest.LogCaptureFixture) -> None:
    worker, log = make()
    watch(log).install_in_loop(asyncio.get_running_loop())
    listener = await accept(worker, UDPServer(Datagram), "udp://127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", listener.getsockname())
        await until(lambda: caplog.records)
        assert caplog.records[0].getMessage().startswith(
            f"Worker 1.1: server 'srv': 127.0.0.1:{sock.getsockname()[1]}: {__file__}:")
    await worker.servers["srv"].stop()
    await asyncio.sleep(0)


async def test_a_task_nobody_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    _, log = make()
    watch(log).install_in_loop(asyncio.get_running_loop())

    async def work() -> None:
        raise ValueError("no such order")

    asyncio.get_running_loop().create_task(work(), name="orders")
    await until(lambda: caplog.records)
    text = caplog.records[0].getMessage()
    assert text.startswith("Worker 1.1: task 'orders' of test_a_task_nobody_waited_for.<locals>."
                           "work: Task exception was never retrieved: " + __file__)
    assert text.endswith("ValueError: no such order")


async def test_what_a_library_says_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    _, log = make()
    loop = asyncio.get_running_loop()
    watch(log).install_in_loop(loop)
    loop.call_exception_handler({"message": "Unclosed client session", "client_session": 42})
    assert caplog.records[0].getMessage() == (
        "Worker 1.1: Unclosed client session, client_session: 42")


async def test_an_applications_own_handler_stays() -> None:
    _, log = make()
    loop = asyncio.get_running_loop()

    def own(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None: ...

    loop.set_exception_handler(own)
    watch(log).install_in_loop(loop)
    assert loop.get_exception_handler() is own


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name in ((threading, "excepthook"), (sys, "unraisablehook"),
                         (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    return


@pytest.mark.usefixtures("hooks")
def test_threads_finalizers_and_warnings(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    _, log = make()
    watch(log).install_in_process()

    def fail() -> None:
        raise KeyError("pg")

    class Sorry:
        def __del__(self) -> None:
            raise KeyError("late")

    thread = threading.Thread(target=fail, name="reader")
    thread.start()
    thread.join()
    Sorry()
    show_warning("old", DeprecationWarning, "x.py", 3)
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith(f"Worker 1.1: thread 'reader': {__file__}:")
    assert "Exception ignored in" in texts[1] or "exception ignored in" in texts[1]
    assert "KeyError: 'late'" in texts[1]
    assert texts[2] == "x.py:3: DeprecationWarning: old"
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("hooks")
def test_a_worker_told_to_go_inside_a_callback_of_a_weak_reference_complains_of_nothing(
    caplog: pytest.LogCaptureFixture
) -> None:
    _, log = make()
    watch(log).install_in_process()

    class Swallowing:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error(0)

    Swallowing(EarlyExit)
    assert caplog.records == []
    Swallowing(SystemExit)  # the application's own mistake
    assert "SystemExit: 0" in caplog.text


def test_the_same_again_and_again_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, log = make()
    now = [100.0]
    monkeypatch.setattr(failures, "time", SimpleNamespace(monotonic=lambda: now[0]))
    loop = cast(asyncio.AbstractEventLoop, None)

    def fail(number: int) -> None:
        try:
            raise RuntimeError(f"again, with what the peer has sent: {number}")
        except RuntimeError as error:
            log.in_loop(loop, {"message": f"number {number}", "exception": error})

    for number in range(1000):
        fail(number)
    assert len(caplog.records) == 5
    now[0] += 11
    fail(1001)
    assert caplog.records[-1].getMessage().endswith("(995 more of it in the last 10 s)")


def test_threads_with_names_of_their_own_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    _, log = make()
    for number in range(100):
        try:
            raise KeyError(number)
        except KeyError as error:
            log.in_thread(SimpleNamespace(exc_type=KeyError, exc_value=error,
                                          thread=SimpleNamespace(name=f"Thread-{number}")))
    assert len(caplog.records) == 5


def test_what_was_only_counted_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    _, log = make()
    for _ in range(8):
        log.in_loop(cast(asyncio.AbstractEventLoop, None), {"message": "again"})
    log.in_loop(cast(asyncio.AbstractEventLoop, None), {"message": "once"})
    assert len(caplog.records) == 6
    log.flush()
    log.flush()
    assert [record.getMessage() for record in caplog.records[6:]] == [
        "Worker 1.1: again: (3 more of it)"]


async def test_an_endpoint_is_told_with_server_peer_request_and_line(
    caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes()

    @routes.get("/err")
    async def err(request: Any) -> None:
        raise RuntimeError("in err")

    worker, log = make()
    loop = asyncio.get_running_loop()
    watch(log).install_in_loop(loop)
    server: Any = HTTPServer(routes)
    context = ServerContext("srv", None, loop, logging.getLogger("test.crashes"))
    await server.start(context)
    listener = await accept(worker, server, "127.0.0.1:0")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    mine = writer.get_extra_info("sockname")[1]
    writer.write(b"GET /err HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 500 " in await reader.readline()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"Worker 1.1: server 'srv': 127.0.0.1:{mine}: ")
    assert f"err failed on GET '/err': {__file__}:" in record.getMessage()
    assert record.getMessage().endswith("RuntimeError: in err")
    writer.close()
    await worker.servers["srv"].stop()
    await until(lambda: not len(worker.connections))


def test_kinds_of_failure_are_bounded() -> None:
    _, log = make()
    began = time.monotonic()
    for number in range(1000):
        log.in_loop(cast(asyncio.AbstractEventLoop, None), {"message": f"number {number}"})
    assert len(log._kinds) <= 200
    assert time.monotonic() - began < 10


def test_an_acceptor_of_all_interfaces_is_known_by_its_port() -> None:
    serving: Any = Serving.__new__(Serving)
    serving.acceptors = [cast(Acceptor, SimpleNamespace(local=("0.0.0.0", 80)))]
    assert listens_at(serving, ("10.0.0.1", 80))
    assert not listens_at(serving, ("10.0.0.1", 81))
    assert not listens_at(serving, "")
