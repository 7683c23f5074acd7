"""The stack of a process that cannot answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour.ipc import stack_dump
from apihour.ipc.faults import stack_path
from apihour.ipc.runtime import Runtime
from apihour.ipc.stack_dump import dump_frames, dump_stack, is_stopped, read_stack

PROCESS = """
import os, sys, time
from apihour.ipc import faults
from apihour.ipc.runtime import Runtime

runtime = Runtime(sys.argv[1])
fd = faults.register(runtime, os.getpid())

def the_line_it_hangs_on():
    print("ready", flush=True)
    time.sleep(60)

if sys.argv[2] == "hang":
    the_line_it_hangs_on()
faults.unregister(runtime, os.getpid(), fd)
print("unregistered", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def start(runtime: Runtime, what: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(runtime.path), what], stdout=subprocess.PIPE,
        stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() in ("ready", "unregistered")
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def hanging(runtime: Runtime) -> Iterator[int]:
    process = start(runtime, "hang")
    yield process.pid
    end(process)


def test_the_line_it_hangs_on_and_it_goes_on(runtime: Runtime, hanging: int) -> None:
    for _ in range(3):
        stack = dump_stack(runtime, hanging)
        assert "in the_line_it_hangs_on" in stack
        assert stack.count("the_line_it_hangs_on") == 1  # nothing of the dump before
    assert os.waitpid(hanging, os.WNOHANG) == (0, 0)


def test_only_its_user_may_read_it(runtime: Runtime, hanging: int) -> None:
    assert stack_path(runtime, hanging).stat().st_mode & 0o777 == 0o600


def test_a_stopped_process_has_none_to_give(runtime: Runtime, hanging: int) -> None:
    assert not is_stopped(hanging)
    os.kill(hanging, signal.SIGSTOP)
    os.waitpid(hanging, os.WUNTRACED)
    assert is_stopped(hanging)
    assert "is stopped by a signal" in dump_stack(runtime, hanging)
    os.kill(hanging, signal.SIGCONT)


def test_one_that_has_not_registered_is_never_signalled(runtime: Runtime) -> None:
    """The signal's default action would end it."""
    process = start(runtime, "unregister")
    try:
        assert dump_stack(runtime, process.pid) == (
            f"process {process.pid} gives no stack: No such file or directory")
        assert process.poll() is None
    finally:
        end(process)


def test_one_that_is_gone(runtime: Runtime) -> None:
    process = start(runtime, "hang")
    end(process)
    assert dump_stack(runtime, process.pid) == (
        f"process {process.pid} gives no stack: No such process")
    assert not is_stopped(process.pid)


def test_one_that_ends_meanwhile_is_no_error(
    runtime: Runtime, hanging: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(pid: int, sig: int) -> None:
        stack_path(runtime, pid).unlink()

    monkeypatch.setattr(stack_dump.os, "kill", kill)
    assert dump_stack(runtime, hanging) == f"process {hanging} wrote no stack within 0.1 s"


def test_a_link_in_its_place_is_not_followed(runtime: Runtime, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("text")
    stack_path(runtime, 4242).symlink_to(precious)
    assert read_stack(runtime, 4242) == ""
    assert "gives no stack" in dump_stack(runtime, 4242)
    assert precious.read_text() == "text"


def test_a_stack_is_bounded(runtime: Runtime) -> None:
    stack_path(runtime, 1).write_bytes(b"\xff" + b"x" * 100_000)
    assert 16_000 < len(read_stack(runtime, 1)) <= 16_384


def test_the_frames_of_a_dump_are_those_of_the_main_thread() -> None:
    dump = """Thread 0x01 (most recent call first):
  File "/lib/agent.py", line 9 in _run

Current thread 0x02 (most recent call first):
  File "/app/with "quotes".py", line 17 in start
  File "/lib/hooks.py", line 22 in call_hook"""
    assert dump_frames(dump) == [("/lib/hooks.py", 22), ('/app/with "quotes".py', 17)]
    assert dump_frames("process 5 is stopped by a signal") == []
