"""A worker that replaces starts at a lower CPU priority, one that is missing does not."""

import os
import sys

import pytest

from apihour.books.priority import FOR_GOOD, NICE, can_undo
from tests.system.support import echo

APP = '''
import os, threading, time
from plain import Container

time.sleep(0.2)  # an import as long as real ones
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
with open("starts", "a") as file:
    file.write(f"{os.getpriority(os.PRIO_PROCESS, 0)}\\n")
'''
BASE = os.getpriority(os.PRIO_PROCESS, 0)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux keeps it per thread")


def priority_of(pid):
    """That of a process, None once it is gone."""
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return None


def test_only_replacements_are_lowered_and_only_until_they_serve(apihour_daemon, app):
    (app / "starting.py").write_text(APP)
    daemon = apihour_daemon("starting:Container", "-b", "echo=127.0.0.1:0", cwd=app)
    probe, worker = BASE + FOR_GOOD, BASE
    if can_undo():
        probe = worker = BASE + NICE

    def starts():
        values = [int(line) for line in (app / "starts").read_text().split()]
        (app / "starts").unlink()
        return values

    def serving_at_full_priority():
        return all(
            os.getpriority(os.PRIO_PROCESS, int(thread)) == BASE
            for each in daemon.workers("serving")
            for thread in os.listdir(f"/proc/{each.pid}/task"))

    assert starts() == [BASE] * 3  # the probe and two workers
    assert daemon.reload().ok
    assert starts() == [probe, worker, worker]
    daemon.wait(serving_at_full_priority, "their priority")
    # One that retires already would not be missed.
    daemon.wait(lambda: {w.generation for w in daemon.workers()} == {2}, "the old to leave")
    victim = daemon.kill(daemon.workers("serving")[0])
    daemon.wait(lambda: len(pids(daemon) - {victim}) == 2, "its replacement")
    assert starts() == [BASE]
    assert daemon.upgrade().ok
    assert starts() == [probe, worker, worker]
    daemon.wait(serving_at_full_priority, "their priority")
    with daemon.connect("echo") as sock:
        echo(sock)


def test_a_template_and_its_workers_come_to_full_priority(apihour_daemon, app):
    (app / "starting.py").write_text("\n".join(
        line for line in APP.splitlines() if "Thread" not in line))
    daemon = apihour_daemon("starting:Container", "--template", "-b", "echo=127.0.0.1:0", cwd=app)
    assert daemon.reload().ok
    daemon.wait(lambda: daemon.processes() and all(
        priority_of(pid) in (BASE, None) for pid in daemon.processes()), "their priority")
    values = [int(line) for line in (app / "starts").read_text().split()]
    assert values == [BASE, BASE + NICE if can_undo() else BASE]


def pids(daemon):
    return {worker.pid for worker in daemon.workers("serving")}
