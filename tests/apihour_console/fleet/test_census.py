from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard, WorkerState
from apihour_console.fleet.census import Census, Process, state_of
from apihour_console.fleet.dump import catches, parse_dump
from apihour_console.fleet.rates import Rates


def test_process_of_this_test_and_of_nobody() -> None:
    own = Process.read(os.getpid())
    assert own is not None and own.rss > 1 << 20 and own.cpu > 0 and own.state in "RS"
    assert Process.read(999999999) is None


def test_a_zombie_is_nobody() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Process.read(child.pid) is None
    child.wait()


def test_workers_of_two_arbiters_and_boards_that_go(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    census = Census(runtime)
    assert census.workers() == []
    for arbiter, slot in ((11, 2), (22, 1)):
        row = Scoreboard.create(str(runtime.scoreboard(arbiter))).claim(slot, arbiter)
        row.pid, row.state = os.getpid(), WorkerState.SERVING
    assert [(one.row.worker, one.arbiter) for one in census.workers()] == [
        ("1.22", 22), ("2.11", 11)]
    runtime.scoreboard(11).unlink()
    assert [one.row.worker for one in census.workers()] == ["1.22"]
    (tmp_path / "scoreboard.33").write_bytes(b"half written")
    assert len(census.workers()) == 1
    census.close()


def test_states_in_words(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    row = Scoreboard.create(str(runtime.scoreboard(1))).claim(1, 1)
    row.pid = os.getpid()
    census = Census(runtime)

    def state(where: str = "") -> str:
        (one,) = census.workers()
        return state_of(one, where)

    row.heartbeat = time.monotonic() - 100
    assert state() == "starting"
    row.state, row.accepting, row.heartbeat = WorkerState.SERVING, 1.0, time.monotonic()
    assert state() == "serving"
    row.accepting = 0.0
    assert state() == "suspended"
    row.heartbeat = time.monotonic() - 4.2
    assert state("app.py:17 handler") == "stuck 4.2 s in app.py:17 handler"
    assert census.workers()[0].lag >= 4.2


def test_dump_of_the_current_thread_is_read() -> None:
    text = (
        'Thread 0x00007f01 (most recent call first):\n'
        '  File "/lib/threading.py", line 320 in wait\n\n'
        'Current thread 0x00007f02 (most recent call first):\n'
        '  File "/app/x y.py", line 17 in handler\n'
        '  File "/app/main.py", line ??? in <module>\n\n'
        'Extension modules: a\n'
    )
    assert [(one.file, one.line, one.function) for one in parse_dump(text)] == [
        ("/app/x y.py", 17, "handler"), ("/app/main.py", 0, "<module>")]
    assert parse_dump("") == []


def test_a_process_without_the_handler_is_not_signalled() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not catches(child.pid)
    finally:
        child.communicate(b"\n")
    assert not catches(999999999)


def test_rates() -> None:
    rates = Rates()
    rates.look(10.0, {("requests", "1"): 100, ("requests", "2"): 50})
    assert rates.rate("requests", "1") == 0
    rates.look(10.1, {("requests", "1"): 999})
    rates.look(12.0, {("requests", "1"): 120, ("requests", "2"): 4, ("requests", "3"): 7})
    assert rates.rate("requests", "1") == 10
    assert rates.rate("requests", "2") == 2, "a counter that shrank is a new one"
    assert rates.rate("requests") == 12
