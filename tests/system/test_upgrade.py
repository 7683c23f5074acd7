"""A new arbiter on the same sockets: under load, ten times, and when it cannot come up."""

import os
import signal
import socket
import time

import pytest

from apihour.ipc.daemons import scoreboards
from apihour.testing import Load
from tests.system.support import deploy, echo, get


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_upgrades_lose_nothing(apihour_daemon, app, tmp_path, times):
    pidfile, path = tmp_path / "pid", tmp_path / "echo.sock"
    daemon = apihour_daemon(
        "echo:Container", "--pid", str(pidfile), "-b", "echo=127.0.0.1:0",
        "-b", f"echo=unix:{path}", cwd=app)
    first, port = daemon.pid, daemon.lines[1].rpartition("echo=")[2]
    with Load("tcp", port, connections=3, think=0.005) as tcp, \
            Load("tcp", f"unix:{path}", connections=3, think=0.005) as unix:
        for _ in range(times):
            tcp.wait_answers(10)
            before = daemon.pid
            outcome = daemon.upgrade()
            assert outcome.ok, outcome
            assert daemon.pid != before
            assert int(pidfile.read_text()) == daemon.pid == outcome.rows[0]["pid"]
        tcp.wait_answers(10)
        unix.wait_answers(10)
    assert not tcp.report.lost, tcp.report
    assert not unix.report.lost, unix.report
    assert daemon.pid != first
    daemon.wait(lambda: {w.generation for w in daemon.workers()} == {times + 1}, "the others' end")
    # What it was is gone: one runtime directory, one scoreboard, one set of processes.
    assert [pid for pid, _ in scoreboards(daemon.runtime)] == [daemon.pid]
    assert len(daemon.processes()) == 3
    assert daemon.reload().ok
    daemon.terminate()
    assert not pidfile.exists()
    assert not path.exists()


def test_upgrades_bring_new_code_and_lose_no_http_request(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    with Load("keep-alive", daemon.address("http"), connections=3, think=0.005) as load:
        for version in ("2", "3"):
            load.wait_answers(10)
            deploy(app, version)
            assert daemon.upgrade().ok
            assert get(daemon)["version"] == version
        load.wait_answers(10)
    assert not load.report.lost, load.report


def test_usr2(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    before = daemon.pid
    deploy(app, "2")
    with daemon.connect("echo") as sock:
        echo(sock)
        daemon.signal(signal.SIGUSR2)
        daemon.wait(lambda: daemon.pid != before, "the new arbiter")
        daemon.wait(lambda: get(daemon)["version"] == "2", "the new code")
        echo(sock)  # an old worker holds it until its own deadline
    daemon.wait(lambda: before not in daemon.processes(), "the old arbiter's end")


def test_new_code_that_fails_leaves_the_old_untouched(apihour_daemon, app, tmp_path):
    pidfile = tmp_path / "pid"
    daemon = apihour_daemon(
        "house:Container", "--boot-timeout", "4", "--pid", str(pidfile), cwd=app)
    before, workers = daemon.pid, [worker.pid for worker in daemon.workers()]
    failures = {
        "import": "import not_installed\n",
        "start": "VERSION = '2'\nimport apihour\nasync def start(self):\n"
                 "    raise RuntimeError('no database')\napihour.Container.start = start\n",
        "death": "import os\nos._exit(5)\n",
        "slow": "import asyncio, apihour\nVERSION = '2'\nasync def start(self):\n"
                "    await asyncio.sleep(60)\napihour.Container.start = start\n",
    }
    with Load("keep-alive", daemon.address("http"), connections=3, think=0.005) as load:
        for case, text in failures.items():
            deploy(app, None, text=text)
            outcome = daemon.upgrade()
            assert not outcome.ok, case
            assert outcome.error
            daemon.wait(lambda: len(daemon.processes()) == 3, f"the end of the failed {case!r}")
            assert daemon.pid == before == int(pidfile.read_text())
            assert [worker.pid for worker in daemon.workers()] == workers
        deploy(app, "good")
        assert daemon.reload().ok
        load.wait_answers(10)
    assert not load.report.lost, load.report
    assert daemon.terminate() == 0


def test_term_during_an_upgrade_ends_both(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    deploy(app, None, text="import time\ntime.sleep(30)\nVERSION = '2'\n")
    daemon.signal(signal.SIGUSR2)
    daemon.wait_log("Upgrade: starting")
    assert daemon.terminate(timeout=5) == 0


def test_systemd_is_told_of_reloads_an_upgrade_and_the_stop(apihour_daemon, app):
    name = f"\0apihour-test-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(name)
        notify.settimeout(30)
        daemon = apihour_daemon(
            "house:Container", cwd=app,
            env={"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "600000"})
        assert f"MAINPID={daemon.pid}" in _until(notify, b"READY=1")
        _until(notify, b"WATCHDOG=1")
        before = time.monotonic_ns() // 1000
        daemon.reload(wait=False)  # as Type=notify-reload does, which waits for both
        stamp = _until(notify, b"RELOADING=1").split("\n")[1]
        assert int(stamp.removeprefix("MONOTONIC_USEC=")) >= before
        assert "STATUS=apihour serves, generation 2" in _until(notify, b"READY=1")
        deploy(app, None, text="raise RuntimeError('no')\n")
        daemon.reload(wait=False)
        _until(notify, b"RELOADING=1")
        assert "generation 2; reload refused: " in _until(notify, b"READY=1")
        deploy(app, "3")
        assert daemon.upgrade().ok
        assert f"MAINPID={daemon.pid}" in _until(notify, b"READY=1")
        _drain(notify)
        _until(notify, b"WATCHDOG=1")  # the new arbiter's: the old one has gone
        daemon.terminate()
        assert "STOPPING=1" in _until(notify, b"STOPPING=1")


def _drain(notify):
    notify.setblocking(False)
    try:
        while True:
            assert b"STOPPING" not in notify.recv(4096)
    except BlockingIOError:
        notify.settimeout(30)


def _until(notify, word):
    while word not in (data := notify.recv(4096)):
        pass
    return data.decode()


def test_reload_and_upgrade_exclude_each_other(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    deploy(app, None, text="import time\ntime.sleep(0.5)\nVERSION = '2'\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("signal: hup")
    outcome = daemon.request("upgrade")
    assert not outcome.ok
    assert "reload is under way" in outcome.error
    deploy(app, "3")
    daemon.wait_log("Reload done")
    daemon.signal(signal.SIGUSR2)
    daemon.wait_log("Upgrade: starting")
    assert "upgrade is under way" in daemon.reload().error
    daemon.wait_log("Upgrade done")
