"""What is said of a worker's end: it left, or something ended it."""

from __future__ import annotations

import signal
from unittest.mock import Mock

import pytest

from apihour.arbiter.reports import Reports
from tests.apihour.fake_crew import Clock, FakeCrew


def test_what_a_worker_tells_is_told_once() -> None:
    crew = FakeCrew(Clock(), workers=1)
    worker = crew.spawn(1, 1, [], crew.books.cfg)
    worker.channel = Mock(receive=lambda: [{"event": "told", "what": "job 'x' failed"}])
    Reports(crew.books, Mock(), Mock(), Mock(), Mock()).hear(worker)
    assert [one.message for one in crew.books.ring.records] == ["job 'x' failed"]
    assert not crew.log.lines  # the worker's own log has it


@pytest.mark.parametrize(("ready", "status", "said"), [
    (True, 0, "Worker 1.1 retired (pid: 5000001)"),
    (True, signal.SIGTERM, "Worker 1.1 retired (pid: 5000001)"),
    (True, signal.SIGKILL, "Worker 1.1 (pid: 5000001) ended while it retired: killed by SIGKILL"),
    (True, 3 << 8, "Worker 1.1 (pid: 5000001) ended while it retired: exit status 3"),
    (False, 1 << 8, "Worker 1.1 (pid: 5000001) ended while it retired: exit status 1"),
    (False, 3 << 8, "Worker 1.1 (pid: 5000001) did not start either"),
])
def test_only_one_that_left_is_called_retired(ready: bool, status: int, said: str) -> None:
    crew = FakeCrew(Clock(), workers=1)
    books = crew.books
    worker = crew.spawn(1, 1, [], books.cfg)
    worker.row.clear, worker.channel_open, worker.ready = Mock(), False, ready
    books.runtime.agent_socket = lambda pid: "/nonexistent"
    books.runtime.path = Mock(__truediv__=lambda self, name: "/nonexistent")
    books.hooks = Mock()
    crew.remove(worker)
    books.retiring[worker.pid] = worker
    reports = Reports(books, Mock(), Mock(), Mock(), Mock())
    assert reports.ended(worker.pid, status)
    assert crew.log.lines == [said]
    assert not books.retiring
