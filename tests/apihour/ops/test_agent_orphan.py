"""A worker whose arbiter died: the agent ends it when its loop cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apihour.ipc.runtime import Runtime
from apihour.testing.processes import is_running

ROOT = Path(__file__).parents[3]

# An arbiter that forks one worker, tells its pid and waits.
ARBITER = """
import os, sys, time
from apihour.ops.agent import Agent
from apihour.ipc.runtime import Runtime
from apihour.testing.processes import is_running
from tests.apihour.fakes import FakeWorker

pid = os.fork()
if pid == 0:
    worker = FakeWorker(Runtime(sys.argv[1]))
    worker.cfg.graceful_timeout = 3
    Agent(worker).start()
    if sys.argv[2] == "blocked":
        worker.loop.call_later(0.2, time.sleep, 60)
    worker.loop.call_later(0.1, lambda: print(os.getpid(), flush=True))
    worker.run()
time.sleep(60)
"""


@pytest.mark.parametrize("loop", ["blocked", "healthy"])
def test_an_orphan_is_ended_only_when_its_loop_is_blocked(tmp_path: Path, loop: str) -> None:
    arbiter = subprocess.Popen(
        [sys.executable, "-c", ARBITER, str(Runtime(tmp_path).path), loop], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    assert arbiter.stdout is not None
    pid = int(arbiter.stdout.readline())
    try:
        arbiter.kill()
        arbiter.wait()
        begun = time.monotonic()
        if loop == "healthy":
            while time.monotonic() - begun < 3.5:
                assert is_running(pid), "it was ended although it could have left by itself"
                time.sleep(0.1)
            return
        while is_running(pid) and time.monotonic() - begun < 10:
            time.sleep(0.05)
        assert not is_running(pid)
        assert 1.5 < time.monotonic() - begun < 4.5
    finally:
        if is_running(pid):
            os.kill(pid, 9)
        arbiter.communicate()
