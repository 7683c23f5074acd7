"""The processes of ``container.run_cpu`` end with their worker, and nothing is printed."""

import os
import signal
import time
from pathlib import Path

import pytest

from apihour.testing import Load
from apihour.testing.processes import is_running
from tests.system.support import get

APPLICATION = """
import os, time, apihour
from apihour_http import HTTPServer, Routes

routes = Routes()

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

@routes.get("/work/{seconds}")
async def cpu(request):
    return {"pid": await request.container.run_cpu(work, float(request.match_info["seconds"]))}

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
"""


@pytest.fixture
def daemon(apihour_daemon, tmp_path):
    (tmp_path / "computing.py").write_text(APPLICATION)
    return apihour_daemon("computing:Container", "--no-console", "--graceful-timeout", "1",
                          cwd=tmp_path, workers=1)


def wait_gone(pids):
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def children(pid):
    return {int(each) for task in Path(f"/proc/{pid}/task").iterdir()
            for each in (task / "children").read_text().split()}


def pool(daemon):
    """The pid of the pool's process, and all processes that came with the pool."""
    pid = get(daemon, "/work/0")["pid"]
    (worker,) = daemon.workers("serving")
    found = children(worker.pid)
    assert pid in found
    return found


@pytest.mark.parametrize("busy", [False, True])
def test_at_a_stop(daemon, busy):
    found = pool(daemon)
    if busy:
        with daemon.connect("http") as sock:
            sock.sendall(b"GET /work/60 HTTP/1.1\r\nHost: x\r\n\r\n")
            daemon.wait(lambda: daemon.workers()[0].connections, "the request")
            assert daemon.terminate(signal.SIGTERM) == 0
    else:
        assert daemon.terminate(signal.SIGTERM) == 0
    wait_gone(found)
    told = [line for line in daemon.lines
            if "[INFO]" not in line and "connections left at the end" not in line]
    assert told == []


def test_at_a_reload_under_load(daemon):
    found = pool(daemon)
    with Load("keep-alive", daemon.address("http"), path="/work/0.01", connections=2) as load:
        load.wait_answers(5)
        assert daemon.reload().ok
        wait_gone(found)
        load.wait_answers(5)
    assert not load.report.lost, load.report
    assert [line for line in daemon.lines if "[INFO]" not in line] == []


def test_when_the_worker_is_killed(daemon):
    found = pool(daemon)
    (worker,) = daemon.workers()
    daemon.kill(worker)
    wait_gone(found)


def test_after_its_idle_process_was_killed(daemon):
    for _ in range(2):
        pid = get(daemon, "/work/0")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_gone([pid])
        assert len({get(daemon, "/work/0")["pid"] for _ in range(6)} - {pid}) == 1
    assert daemon.reload().ok
    assert get(daemon, "/work/0")["pid"] != pid
    assert [line for line in daemon.lines if "[INFO]" not in line] == []


LOGGING = APPLICATION.replace("def work(seconds):", '''def work(seconds):
    import logging, threading, warnings
    warnings.warn("sums are old")
    class Odd:
        def __del__(self): raise ValueError("in a finalizer")
    Odd()
    def odd(): raise KeyError("in a thread")
    threading.Thread(target=odd, name="odd").start()
    logging.getLogger("shop.sums").info("worked %s s", seconds)
    logging.debug("of no interest")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("a sum \\x1b[31mfailed")''')


def test_what_it_logs_is_in_the_workers_log(apihour_daemon, tmp_path):
    (tmp_path / "logging_sums.py").write_text(LOGGING)
    path = tmp_path / "error.log"
    daemon = apihour_daemon("logging_sums:Container", "--no-console", "--error-logfile", path,
                            cwd=tmp_path, workers=1, log=path)
    address = daemon.address("http")
    pid = get(address, "/work/0")["pid"]
    told = rf"\[{pid}\] \[{{}}\] Worker 1\.1: {{}}"
    daemon.wait_log(told.format("INFO", r"shop\.sums: worked 0\.0 s"))
    daemon.wait_log(told.format("ERROR", r"a sum \\x1b\[31mfailed"))
    daemon.wait_log("ZeroDivisionError: division by zero")
    daemon.wait_log(told.format("WARNING", r"py\.warnings: .*logging_sums\.py:\d+: UserWarning"))
    daemon.wait_log(told.format("ERROR", r"run_cpu: thread 'odd': .*logging_sums\.py:\d+: .*"
                                         r": KeyError: 'in a thread'"))
    daemon.wait_log(told.format("ERROR", "run_cpu: .*Odd.*: ValueError: in a finalizer"))
    path.rename(tmp_path / "rotated.log")
    daemon.signal(signal.SIGUSR1)
    daemon.wait(path.exists, "the new log")
    daemon.wait(lambda: get(address, "/work/0.01")["pid"] == pid and "worked 0.01 s"
                in path.read_text(), "its line in the new log")
    assert "of no interest" not in daemon.log
    assert not set(daemon.lines) - set(path.read_text().splitlines()) - set(
        (tmp_path / "rotated.log").read_text().splitlines())
