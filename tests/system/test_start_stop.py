"""From the command to the exit status, and every signal of gunicorn's list."""

import functools
import os
import signal
import subprocess
import time

import pytest

from apihour.testing import Load
from tests.system.support import echo, get, run


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_signals_end_with_status_0(apihour_daemon, system_apps, sig, tmp_path):
    path = tmp_path / "pid"
    daemon = apihour_daemon(
        "house:Container", "--pid", str(path), "-b", f"echo=unix:{tmp_path}/echo.sock",
        cwd=system_apps)
    assert int(path.read_text()) == daemon.pid
    with daemon.connect("echo") as sock:
        echo(sock)
        began = time.monotonic()
        daemon.signal(sig)
        if sig == signal.SIGTERM:
            # A graceful stop leaves the session alone until its end.
            daemon.wait(lambda: daemon.workers("draining"), "the drain")
            echo(sock)
            sock.close()
        assert daemon.wait_exit() == 0
        assert time.monotonic() - began < 3
    assert not path.exists()
    assert not (tmp_path / "echo.sock").exists()
    assert not list(daemon.directory.glob("apihour-*/*"))


def test_second_int_ends_a_graceful_stop(apihour_daemon, system_apps):
    daemon = apihour_daemon("echo:Container", "--graceful-timeout", "60", cwd=system_apps)
    with daemon.connect("echo") as sock:
        echo(sock)
        daemon.signal(signal.SIGTERM)
        daemon.wait(lambda: daemon.workers("draining"), "the drain")
        assert daemon.terminate(signal.SIGINT, timeout=10) == 0
        assert sock.recv(1) == b""


def test_ttin_ttou_and_their_count_survives_a_reload(apihour_daemon, system_apps):
    daemon = apihour_daemon("echo:Container", workers=1, cwd=system_apps)
    daemon.signal(signal.SIGTTIN)
    daemon.wait(lambda: len(daemon.workers("serving")) == 2, "a second worker")
    daemon.signal(signal.SIGTTIN)
    daemon.wait(lambda: len(daemon.workers("serving")) == 3, "a third worker")
    assert daemon.reload().rows[0]["workers"] == 3
    daemon.signal(signal.SIGTTOU)
    daemon.wait(lambda: len(daemon.workers()) == 2, "two workers")
    for _ in range(5):
        daemon.signal(signal.SIGTTOU)
        time.sleep(0.02)  # queued signals of one kind are one (signal(7))
    daemon.wait(lambda: len(daemon.workers()) == 1, "one worker")
    assert daemon.reload().rows[0]["workers"] == 1
    assert daemon.scale(2).rows[0]["before"] == 1
    assert not daemon.request("scale", workers=0).ok
    daemon.terminate()


def test_storm_of_ttin_and_ttou_leaves_nobody_behind(apihour_daemon, system_apps):
    daemon = apihour_daemon("echo:Container", cwd=system_apps)
    with Load("tcp", daemon.address("echo"), connections=4) as load:
        for _ in range(40):
            # A worker may be told to leave within a millisecond of its fork.
            daemon.signal(signal.SIGTTIN)
            time.sleep(0.01)
            daemon.signal(signal.SIGTTOU)
            time.sleep(0.01)
        def is_calm(most):
            return len(daemon.workers()) == len(daemon.workers("serving")) <= most

        # On a busy machine one signal may stand for two of its kind: some more may be wanted.
        daemon.wait(lambda: is_calm(40), "calm")
        while len(daemon.workers()) > 2:
            fewer = len(daemon.workers()) - 1
            daemon.signal(signal.SIGTTOU)
            daemon.wait(functools.partial(is_calm, fewer), "one fewer")
        load.wait_answers(10)
    assert not load.report.lost, load.report
    assert "did not leave in time" not in daemon.log


def test_usr1_reopens_the_logs(apihour_daemon, system_apps, tmp_path):
    log, access = tmp_path / "error.log", tmp_path / "access.log"
    daemon = apihour_daemon(
        "house:Container", "--error-logfile", str(log), "--access-logfile", str(access),
        cwd=system_apps, workers=1, log=log)
    address = daemon.address("http")
    log.rename(tmp_path / "error.old")
    access.rename(tmp_path / "access.old")
    daemon.signal(signal.SIGUSR1)
    daemon.wait(lambda: log.exists() and access.exists(), "new log files")
    get(address, "/?after")
    daemon.wait(lambda: "/?after" in access.read_text(), "its line in the new access log")
    assert "/?after" not in (tmp_path / "access.old").read_text()
    daemon.terminate()
    assert "Shutting down" in log.read_text()


def test_as_a_daemon_winch_retires_the_workers(apihour_daemon, system_apps, tmp_path):
    log = tmp_path / "log"
    daemon = apihour_daemon(
        "echo:Container", "--daemon", "--error-logfile", str(log), cwd=system_apps, log=log)
    assert daemon.process.wait(10) == 0
    assert daemon.pid != daemon.process.pid
    daemon.signal(signal.SIGWINCH)
    daemon.wait(lambda: not daemon.workers(), "no workers")
    os.kill(daemon.pid, 0)
    daemon.signal(signal.SIGHUP)
    daemon.wait_ready()
    with daemon.connect("echo") as sock:
        echo(sock)
    assert daemon.terminate() is None
    assert "Shutting down" in log.read_text()


def test_winch_is_ignored_in_the_foreground(apihour_daemon, system_apps):
    daemon = apihour_daemon("echo:Container", "--log-level", "debug", cwd=system_apps)
    daemon.signal(signal.SIGWINCH)
    daemon.wait_log("SIGWINCH ignored")
    assert len(daemon.workers("serving")) == 2


def test_stop_while_the_first_workers_start(apihour_daemon, app):
    (app / "slow_start.py").write_text(
        "import asyncio, echo\n"
        "class Container(echo.Container):\n"
        "    async def start(self):\n"
        "        print('starting', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "    async def cleanup(self):\n"
        "        print('cleaned up', flush=True)\n")
    daemon = apihour_daemon("slow_start:Container", cwd=app, wait=False)
    daemon.wait(lambda: daemon.log.count("starting") == 2, "both workers")
    began = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - began < 3
    assert daemon.log.count("cleaned up") == 2


def test_sigterm_loses_no_request(apihour_daemon, system_apps):
    daemon = apihour_daemon("house:Container", cwd=system_apps)
    with Load("keep-alive", daemon.address("http"), path="/slow", connections=8) as load:
        load.wait_answers(50)
        daemon.signal(signal.SIGTERM)
        daemon.wait(lambda: load.report.refused, "the listener's end")
    assert daemon.wait_exit() == 0
    assert load.report.lost == load.report.refused, load.report


def test_help_version_and_usage():
    assert run("--help").stdout.startswith("usage: apihour")
    assert run("--version").stdout.startswith("apihour ")
    assert run("run", "--help").returncode == 0
    assert run().returncode == 2


def test_command_is_installed(system_apps):
    result = subprocess.run(["apihour", "check", "echo:Container"], cwd=system_apps, text=True,
                            capture_output=True, env={**os.environ, "PATH": _bin()})
    assert result.returncode == 0, result.stderr
    assert "echo" in result.stdout


def _bin():
    import sysconfig

    return sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]


TOLD_WHILE_ITS_LOOP_STARTS = """
import asyncio, os, signal, apihour

class Loop(asyncio.SelectorEventLoop):
    def run_until_complete(self, future):
        if not os.path.exists("told"):
            open("told", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().run_until_complete(future)

class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}

    @classmethod
    def make_event_loop(cls, config):
        return Loop()

    async def start(self):
        await asyncio.sleep(0)

    def make_servers(self):
        return {"echo": asyncio.Protocol}
"""


def test_a_worker_told_to_leave_while_its_loop_starts_leaves_in_silence(apihour_daemon, tmp_path):
    (tmp_path / "app.py").write_text(TOLD_WHILE_ITS_LOOP_STARTS)
    daemon = apihour_daemon("app:Container", workers=1, cwd=tmp_path, wait=False)
    assert daemon.wait_exit() == 1
    assert "worker 1.1 ended before it was ready (exit status 0)" in daemon.log
    assert "Warning" not in daemon.log
