"""A worker stuck in each of five ways, against every command of the catalogue.

One daemon, one worker stuck at a time: what the shell shows of it, what it still answers, and
that nothing waits for it longer than two seconds.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.shell_support import house, needs_ssh
from tests.system.test_supervision import worker_of

pytestmark = needs_ssh

WAYS = ("sleep", "release", "regex", "integer", "spin", "stop")
SILENT = ("regex", "integer", "stop")  # not even the agent's thread can run
LIMIT = 2.0  # seconds in which everything answers
MARGIN = 1.0  # seconds a busy machine may take to run us

# Every command of the catalogue, as it is asked here. "agent": answered by the agent's thread,
# "loop": by the loop, "one": by any one worker, "console": without them, or by what it knows.
CALLS = {
    "agent": [
        "conns", "tasks", "log", "logs", "slow", "gc", "servers", "mem --stop",
        "profile -s 100ms", "certs", "bans", "engines", "presence", "upstreams",
    ],
    "loop": ["pids", "routes -s 100ms"],
    "one": ["config", "env", "quickest", "greet you", "jobs", "flags"],  # another worker will do
    "console": ["help", "version", "health", "metrics", "top", "sessions", "audit -n 1",
                "watch --limit 1 0.2 workers", "scale 2", "clear", "exit", "events"],
}
SPECIAL = {"workers", "stack", "where", "cancel", "kick", "python", "reload", "upgrade",
           "drain", "undrain", "signal",
           "restart", "rollback", "ban", "unban", "suspend", "resume", "limit",
           "hosts"}  # of a fleet


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("stuck"), "--timeout", "300",
               "--health", "127.0.0.1:0") as found:
        yield found


class Stuck:
    """One worker that is stuck, and the calls made meanwhile."""

    def __init__(self, shell, way):
        self.shell = shell
        self.way = way
        shell.daemon.wait_ready()
        task = shell.rows("tasks", "--filter", "name=the-child")
        self.sock, self.pid = worker_of(shell.daemon)
        found = [one for one in shell.daemon.workers() if one.pid == self.pid]
        self.name = found[0].worker
        self.slot = found[0].slot
        self.task = next(row["id"] for row in task if row["worker"] == self.name)
        self.conn = next(row["id"] for row in shell.rows("conns")
                         if row["peer"] == "{}:{}".format(*self.sock.getsockname()))
        if way == "stop":
            shell.daemon.stop(self.pid)
        else:
            self.sock.sendall(f"GET /stick/{way} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        shell.daemon.wait(
            lambda: next(one for one in shell.daemon.workers() if one.pid == self.pid).silent > 1.2,
            "its silence")

    def end(self):
        self.sock.close()
        self.shell.daemon.kill(self.pid)
        self.shell.daemon.wait(
            lambda: self.pid not in {one.pid for one in self.shell.daemon.workers()}, "its end")

    def ask(self, line):
        """One command by ``ssh``: its outcome, and how long the daemon took."""
        began = time.monotonic()
        done = self.shell.ssh(line, "--json" if "watch" not in line else "")
        done.took = time.monotonic() - began
        return done


@pytest.fixture(scope="module", params=WAYS)
def stuck(request, shell):
    found = Stuck(shell, request.param)
    try:
        yield found
    finally:
        found.end()


def test_workers_marks_it_and_says_for_how_long(stuck):
    done = stuck.ask("workers")
    assert done.returncode == 0 and done.took < LIMIT
    rows = {row["pid"]: row for row in json.loads(done.stdout)}
    row = rows.pop(stuck.pid)
    assert row["worker"] == stuck.name
    assert row["lag"] > 1
    shown = row["state"]
    if stuck.way == "stop":
        assert shown.startswith("stopped by a signal, silent ")
    else:
        assert shown.startswith("stuck ") and float(shown.split()[1]) > 1
        if stuck.way in ("sleep", "release", "spin"):
            assert any(f"in shell_house.py:{line} {stuck.way}" in shown
                       for line in lines_of(stuck.way)), shown
    assert [other["state"] for other in rows.values()] == ["serving"]


def test_stack_shows_the_line(stuck):
    done = stuck.ask("stack")
    rows = json.loads(done.stdout)
    mine = [row for row in rows if row["worker"] == stuck.name]
    assert {row["worker"] for row in rows} >= {row.worker for row in stuck.shell.daemon.workers()
                                               if row.pid != stuck.pid}
    assert done.took < LIMIT + MARGIN
    if stuck.way == "stop":
        assert done.returncode == 75 and not mine
        assert f"worker {stuck.name}: stopped by a signal: a stopped process has no stack" in (
            done.stderr)
        return
    assert done.returncode == 0
    [row] = [row for row in mine if row["function"] == stuck.way]
    assert row["line"] in lines_of(stuck.way) and row["text"]
    assert {row["state"].split(",")[0] for row in mine} == {"blocked"}
    assert all(row["blocked"] > 1 for row in mine)
    text = stuck.shell.ssh("stack", stuck.name).stdout
    assert f"worker {stuck.name}" in text and "blocked" in text and "shell_house.py" in text


def lines_of(way):
    """The lines of the application's function that gets stuck."""
    text = (Path(__file__).parent / "apps" / "shell_house.py").read_text().splitlines()
    number = text.index(f"def {way}():") + 2
    return range(number, number + (2 if way == "spin" else 1))


def test_every_other_command_answers_in_two_seconds(stuck):
    if stuck.way == "integer":
        pytest.skip("the same as with a regular expression")
    asked = [(kind, line) for kind, lines in CALLS.items() for line in lines]
    before = len(stuck.shell.audit())
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda one: stuck.ask(one[1]), asked))
    wrong = []
    for (kind, line), done in zip(asked, found, strict=True):
        missing = kind == "loop" or (kind == "agent" and stuck.way in SILENT)
        if line == "health":
            expected = 1  # it names the worker in a row, not as one that did not answer
        elif line.startswith("watch"):
            expected = 0
        elif line in ("top", "metrics"):
            expected = 75 if stuck.way in SILENT else 0
        else:
            expected = 75 if missing else 0
        named = f"worker {stuck.name}: " in done.stderr
        if done.returncode != expected or named is not (expected == 75):
            wrong.append((line, expected, done.returncode, done.stdout[:300], done.stderr))
        elif expected == 75 and kind != "console":
            rows = json.loads(done.stdout)
            assert {row.get("worker") for row in rows} != {stuck.name}
    assert not wrong, wrong
    slow = [(one["command"], one["duration"]) for one in stuck.shell.audit()[before:]
            if one["duration"] > LIMIT + MARGIN]
    assert not slow, slow
    assert {line.split()[0] for _, line in asked} | SPECIAL == set(
        row["command"] for row in stuck.shell.rows("help")), "a command is not tested"


def test_commands_about_the_stuck_worker_say_that_it_is(stuck):
    """What only its loop could do is refused in time; the agent and the arbiter do theirs."""
    if stuck.way == "integer":
        pytest.skip("the same as with a regular expression")
    refused = [f"cancel {stuck.task}", f"kick {stuck.conn}", f"pids --worker {stuck.name}"]
    done_by_agent = f"where {stuck.task}"
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip([*refused, done_by_agent],
                         pool.map(stuck.ask, [*refused, done_by_agent]), strict=True))
    for line in refused:
        done = found[line]
        assert (done.returncode, done.stdout.strip()) == (75, "[]"), (line, done)
        assert f"worker {stuck.name}: " in done.stderr and len(done.stderr.splitlines()) == 1
        if stuck.way in ("sleep", "release", "spin"):
            assert "blocked for" in done.stderr and f" {stuck.way}\n" in done.stderr
    assert found[done_by_agent].returncode == (75 if stuck.way in SILENT else 0)
    assert all(done.took < LIMIT + MARGIN for done in found.values()), found
    for line in (f"drain {stuck.slot}", f"undrain {stuck.slot}", f"signal USR1 {stuck.slot}"):
        done = stuck.ask(line)
        assert done.returncode == 0, (line, done)
        assert done.took < LIMIT + MARGIN, line


def test_interactive_shell_stays_quick(stuck):
    with stuck.shell.terminal() as terminal:
        terminal.expect("shell_house>")
        began = time.monotonic()
        terminal.type("stack " + stuck.name[0] + "\t")
        terminal.expect("stack")
        terminal.type("\x03")
        terminal.expect("shell_house>")
        terminal.run("version", "gunicorn")
        assert time.monotonic() - began < 3


def test_reload_does_not_wait_for_it(stuck):
    """Nor does an upgrade; an open session sees what they do. Last: it retires the worker."""
    line = "upgrade" if stuck.way == "stop" else "reload"
    done = stuck.ask(line)
    assert done.returncode == 0, done
    assert [row["outcome"] for row in json.loads(done.stdout)] == ["done"]
    stuck.shell.daemon.wait_ready()
    rows = stuck.shell.daemon.wait(lambda: states(stuck), "the old ones to leave", timeout=30)
    assert rows[stuck.pid].startswith("stopped" if stuck.way == "stop" else "stuck")


def states(stuck):
    """What the workers do by pid, once two serve and no more."""
    done = stuck.ask("workers")
    if done.returncode == 255:
        return {}  # its connection is to the console of the arbiter that leaves
    rows = {row["pid"]: row["state"] for row in json.loads(done.stdout)}
    return rows if list(rows.values()).count("serving") == 2 else {}
