"""What is sent to a service manager, on a socket of its kind."""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour.arbiter.service_manager import ServiceManager


@pytest.fixture
def notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield sock


def made(pid: int = 7, took_over: bool = False, **environment: str) -> ServiceManager:
    return ServiceManager(
        logging.getLogger("test"), {**os.environ, **environment}, pid, took_over)


def test_what_is_told(notify: socket.socket) -> None:
    service = made()
    service.tell("READY=1", "STATUS=serves\nREADY=0")
    assert notify.recv(4096) == b"READY=1\nSTATUS=serves READY=0"


def test_signs_of_life_come_at_a_third_of_the_time_allowed(notify: socket.socket) -> None:
    service = made(WATCHDOG_USEC="600000", WATCHDOG_PID="7")
    for _ in range(20):
        service.watched()
    assert notify.recv(4096) == b"WATCHDOG=1"
    notify.setblocking(False)
    with pytest.raises(BlockingIOError):
        notify.recv(4096)
    ends = time.monotonic() + 30
    while not select.select([notify], [], [], 0.01)[0]:
        assert time.monotonic() < ends
        service.watched()
    assert notify.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(("pid", "took_over", "environment", "signs"), [
    (7, False, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, True),
    (7, False, {"WATCHDOG_USEC": "30000000"}, True),
    (7, False, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, False),  # another's
    (7, True, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, True),  # its predecessor's
    (7, False, {"WATCHDOG_PID": "7"}, False),
    (7, False, {"WATCHDOG_USEC": "often"}, False),
    (7, False, {"WATCHDOG_USEC": "0"}, False),
])
def test_whose_signs_of_life_are_waited_for(
    notify: socket.socket, pid: int, took_over: bool, environment: dict[str, str], signs: bool
) -> None:
    made(pid, took_over, **environment).watched()
    notify.setblocking(False)
    if signs:
        assert notify.recv(4096) == b"WATCHDOG=1"
    else:
        with pytest.raises(BlockingIOError):
            notify.recv(4096)


def test_one_that_does_not_read_holds_nobody_up(notify: socket.socket) -> None:
    service = made(WATCHDOG_USEC="3")
    for number in range(1000):  # many more than its queue takes (net.unix.max_dgram_qlen)
        service.tell(f"STATUS={number}")
        service.watched()
    got = notify.recv(4096)
    while not got.endswith(b"STATUS=999"):
        got = notify.recv(4096)
        service.watched()
    service.watched()
    assert notify.recv(4096) == b"WATCHDOG=1"


def test_one_that_is_gone_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level("DEBUG"):
        made().tell("READY=1")
    assert "gone': [Errno 2] No such file" in caplog.text
