"""The console process: it outlives reloads, upgrades and its own death, and can be left out."""

import os
import re
import signal
import time

import pytest

from apihour.testing import Load
from apihour.testing.processes import is_running
from tests.system.shell_support import console_pid, ctl, house, needs_ssh
from tests.system.support import echo

pytestmark = needs_ssh


@pytest.fixture
def shell(apihour_daemon, tmp_path):
    with house(apihour_daemon, tmp_path, "--graceful-timeout", "5") as found:
        yield found


def test_session_sees_a_reload(shell):
    with shell.terminal() as terminal, shell.daemon.connect("echo") as held:
        terminal.expect("shell_house>")
        terminal.run("workers", r"1\.1 .*serving.*2\.1 .*serving")
        echo(held)
        terminal.run("reload", r"done +2 ")
        # The connection keeps its old worker, which drains; the new ones serve.
        shell.daemon.wait(lambda: "draining" in str(shell.rows("workers")), "a drain")
        terminal.run("workers", r"draining \d+ of \d+, \d s left")
        terminal.run("workers", r"1\.2 .*serving.*2\.2 .*serving")
        echo(held)
        held.close()
        shell.daemon.wait(
            lambda: {row["worker"] for row in shell.rows("workers")} == {"1.2", "2.2"},
            "the old worker's end")
        terminal.run("tasks --filter name=the-child", r"1\.2:.*2\.2:")


def test_session_survives_upgrades(shell):
    daemon = shell.daemon
    first = console_pid(daemon)
    with shell.terminal() as terminal:
        terminal.expect("shell_house>")
        terminal.run("upgrade", "done", timeout=20)
        old = {row["pid"] for row in shell.rows("workers")}
        terminal.run("workers", r"1\.2 .*serving.*2\.2 .*serving")
        # Whoever comes now is served by a new console; the old one stays for its session.
        shell.forget("admin")
        daemon.wait(lambda: console_pid(daemon) != first, "the new console")
        done = ctl(daemon, "upgrade", "--json")  # the new console may not listen yet
        assert done.returncode == 0, done
        daemon.wait(lambda: not old & {one.pid for one in daemon.workers()}, "the new workers")
        terminal.run("workers", r"1\.3 .*serving.*2\.3 .*serving")
        terminal.run("pids", "here.*here")
        assert is_running(first)
        terminal.type("exit\r")
        assert terminal.ended() == 0
    daemon.wait(lambda: not is_running(first), "the first console's end")
    daemon.wait(lambda: shell.ssh("version", shared=False).returncode == 0, "the new console")
    assert {row["worker"] for row in shell.rows("workers")} == {"1.3", "2.3"}


def test_kill_9_of_the_console_costs_sessions_only(shell):
    daemon = shell.daemon
    workers = {one.pid for one in daemon.workers()}
    before = console_pid(daemon)
    with Load("keep-alive", daemon.address("http"), connections=2, think=0.005) as load:
        load.wait_answers(10)
        with shell.terminal() as terminal:
            terminal.expect("shell_house>")
            daemon.kill(before)
            assert terminal.ended() == 255
        began = time.monotonic()
        daemon.wait(lambda: shell.ssh("version", shared=False).returncode == 0, "a console")
        assert time.monotonic() - began < 5
        load.wait_answers(10)
    assert not load.report.lost, load.report
    assert {one.pid for one in daemon.workers()} == workers
    assert {row["pid"] for row in shell.rows("workers")} == workers
    assert console_pid(daemon) != before
    daemon.wait_log(rf"Console \(pid: {before}\) ended \(killed by SIGKILL\), starting it again")
    # Who did what before is still known.
    assert [row["event"] for row in shell.rows("audit")].count("login") >= 3


def test_arbiter_gone_ends_the_console_and_says_so(shell):
    with shell.terminal() as terminal:
        terminal.expect("shell_house>")
        console = console_pid(shell.daemon)
        os.kill(shell.daemon.pid, signal.SIGKILL)
        shell.daemon.process.wait(10)
        terminal.expect("this console is going", timeout=10)
        terminal.run("version", "gunicorn")
        assert terminal.ended(timeout=12) != 0
    shell.daemon.wait(lambda: not is_running(console), "the console's end")
    shell.daemon.wait(lambda: not shell.daemon.processes(), "everybody's end")


@pytest.mark.parametrize("options", [[], ["--capture-output"]])
def test_rotated_log_is_left_by_the_console_too(apihour_daemon, tmp_path, options):
    log, old = tmp_path / "error.log", tmp_path / "error.old"
    with house(apihour_daemon, tmp_path, "--error-logfile", str(log), *options,
               log=log) as shell:
        log.rename(old)
        shell.daemon.signal(signal.SIGUSR1)
        shell.daemon.wait(log.exists, "the new file")
        console = console_pid(shell.daemon)
        shell.daemon.wait(lambda: str(old) not in open_files(console), "the console to leave it")
        shell.keys.add("fourth", role="observer")
        shell.daemon.wait(lambda: "4 authorised" in log.read_text(), "the console's line")
        assert "4 authorised" not in old.read_text() and "3 keys" in old.read_text()
        assert (open_files(console).count(str(log)) == 1) is not bool(options)


def open_files(pid):
    """What the descriptors of a process are open on."""
    return [os.readlink(one.path) for one in os.scandir(f"/proc/{pid}/fd")]


def test_shutdown_tells_the_sessions(shell):
    with shell.terminal() as terminal:
        terminal.expect("shell_house>")
        os.kill(shell.daemon.pid, signal.SIGTERM)
        terminal.expect("is going|goodbye|ends", timeout=10)
        terminal.ended(timeout=12)
    assert shell.daemon.wait_exit() == 0


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def test_no_console_starts_neither_console_nor_agents(apihour_daemon, shell):
    plain = apihour_daemon("shell_house:Container", "--no-console",
                           cwd=shell.daemon._cwd, console=True)
    shell.rows("workers")
    assert console_pid(plain) == 0
    assert len(plain.processes()) == 3
    assert len(shell.daemon.processes()) == 4
    names = {path.name for path in plain.runtime.path.iterdir()}
    assert not any(re.fullmatch(r"worker\.\d+\.sock|console\.sock", name) for name in names)
    with_agent = {threads(one.pid) for one in shell.daemon.workers()}
    without = {threads(one.pid) for one in plain.workers()}
    assert without == {1} and with_agent == {2}
    done = ctl(plain, "version")
    assert done.returncode == 1 and "--no-console" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with plain.connect("echo") as sock:
        echo(sock)
    assert plain.reload().ok
