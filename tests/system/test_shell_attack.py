"""Operators of all roles at work at once, while workers, arbiter and console come and go.

Each types what only they type. Whatever happens to the daemon, each sees their own alone, is
answered or let go within seconds, and stands in the audit log for nobody else.
"""

import contextlib
import itertools
import os
import random
import re
import signal
import threading
import time

import pytest

from apihour.testing.processes import is_running
from tests.system.shell_support import Keys, console_pid, house, needs_ssh

pytestmark = [needs_ssh, pytest.mark.soak]

ROLES = ("admin", "operator", "observer", "admin", "operator", "observer")
PATIENCE = 10  # seconds until an answer, or until the session has ended
MARK = re.compile(r"mark(\d+)x\d+y")


class Left(Exception):
    """The session ended."""


class Operator(threading.Thread):
    """One key's owner, who goes on until told to stop; what went wrong is in `wrong`."""

    def __init__(self, number, shell, attack):
        super().__init__(daemon=True)
        self.key = f"key{number}"
        self.number, self.shell, self.attack = number, shell, attack
        self.random = random.Random(attack.seed * 100 + number)
        self.count = itertools.count()
        self.answered, self.seen, self.wrong, self.did = [], [], None, []
        self.terminal = None
        self.role = ROLES[number]

    def run(self):
        try:
            while not self.attack.over.is_set():
                self.session()
        except BaseException as error:
            self.wrong = f"{self.key}: {self.did[-3:]}: {type(error).__name__}: {error}"

    def session(self):
        """Log in, do this and that, leave; or be cut off by the death of the console."""
        killed = self.attack.killed
        with self.shell.terminal(role=self.key) as self.terminal:
            try:
                self.expect("shell_house>", 30)
                for _ in range(self.random.randrange(5, 25)):
                    if self.attack.over.is_set():
                        break
                    self.act()
                self.did.append("leave")
                self.terminal.type("\x04")
                assert self.terminal.ended(PATIENCE) == 0
            except (Left, AssertionError, OSError) as error:
                # The client must have left by itself, since its console died.
                with contextlib.suppress(Exception):
                    self.terminal.process.wait(PATIENCE)
                if self.terminal.process.poll() is None or self.attack.killed == killed:
                    raise AssertionError(
                        f"status {self.terminal.process.poll()}, {self.attack.killed - killed} "
                        f"consoles killed: {error}; {self.attack.done[-3:]}") from error
            finally:
                self.seen.append(self.terminal.seen_at_all)

    def expect(self, pattern, timeout=PATIENCE):
        return self.terminal.expect(pattern, timeout)

    def act(self):
        names = ["unknown", "ahead", "complete", "top", "watch", "half", "search", "stop", "resize",
                 "looks", "paste"]
        name = self.random.choice(names + ["python"] * 3 * (self.role == "admin"))
        self.did.append(name)
        getattr(self, f"do_{name}")()
        self.do_unknown()

    def mark(self):
        return f"mark{self.number}x{next(self.count)}y"

    def do_unknown(self):
        mark = self.mark()
        self.terminal.type(mark + "\r")
        self.expect(f"'{mark}': no such command")
        self.answered.append(mark)
        self.expect("shell_house>")

    def do_ahead(self):
        marks = [self.mark(), self.mark()]
        self.terminal.type(f"workers\r{marks[0]}\rversion\r{marks[1]}\r")
        for mark in marks:
            self.expect(f"'{mark}': no such command")
            self.answered.append(mark)

    def do_complete(self):
        self.terminal.type("vers\t")
        self.expect("version")
        self.terminal.type("\r")
        self.expect(r"gunicorn")

    def do_looks(self):
        for line in ("workers", "conns --limit 3"):
            self.terminal.run(line, "", PATIENCE)

    def do_top(self):
        self.terminal.type("top\r")
        self.expect("q quit")
        time.sleep(self.random.random() * 2)
        self.terminal.type("q")
        self.expect("shell_house>")

    def do_watch(self):
        self.terminal.type("watch 0.3 servers\r")
        self.expect("every 0.3 s")
        time.sleep(self.random.random())
        self.terminal.type("\x03")
        self.expect("shell_house>")

    def do_half(self):
        self.terminal.type(f"{self.mark()} half\x03")
        self.expect("shell_house>")

    def do_search(self):
        self.terminal.type("\x12vers")
        self.terminal.settle()
        self.terminal.type("\x07\x15")  # away from it, and the line is empty
        self.terminal.settle()

    def do_stop(self):
        self.terminal.type("\x1a")

    def do_resize(self):
        self.terminal.resize(self.random.randrange(60, 200), self.random.randrange(10, 60))

    def do_paste(self):
        mark = self.mark()
        self.terminal.type(f"\x1b[200~version\n{mark} pasted\n\x1b[201~\r")
        self.expect(f"'{mark}': no such command")
        self.answered.append(mark + " pasted")

    def do_python(self):
        self.terminal.type(f"python {self.random.choice('12')}\r")
        self.expect(">>>")
        for _ in range(3):
            mark, other = self.mark(), self.mark()
            kind = self.random.randrange(3)
            if kind == 0:
                self.terminal.type(f"'{mark}' * 2\r")
            elif kind == 1:
                self.terminal.type(f"\x1b[200~n = 1\nprint('{mark}' * 2)\n\x1b[201~\r")
            else:
                self.terminal.type(f"await asyncio.sleep(0.3); print('{mark}' * 2)\r'{other}'\r")
            self.expect(rf"{mark}{mark}|worker|Worker|cancelled")
        self.terminal.type("\x03")
        self.terminal.settle(0.5)
        self.terminal.type("\x15\x04")
        self.expect("shell_house>")


class Attack:
    """What happens to the daemon meanwhile."""

    def __init__(self, shell, seed):
        self.shell, self.daemon, self.seed = shell, shell.daemon, seed
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.killed = 0
        self.done = []

    def strike(self):
        name = self.random.choice(["worker", "reload", "upgrade", "console", "stuck", "nothing"])
        self.done.append((time.strftime("%T"), name))
        getattr(self, name)()

    def nothing(self):
        time.sleep(1)

    def worker(self):
        with contextlib.suppress(ProcessLookupError):
            self.daemon.kill(self.random.choice(self.daemon.workers("serving")))
        self.daemon.wait_ready(timeout=60)

    def reload(self):
        assert self.daemon.reload().ok

    def upgrade(self):
        assert self.daemon.upgrade().ok

    def console(self):
        pid = self.daemon.wait(lambda: console_pid(self.daemon), "a console", 60)
        self.killed += 1
        os.kill(pid, signal.SIGKILL)
        self.daemon.wait(lambda: console_pid(self.daemon) not in (0, pid), "a console", 60)

    def stuck(self):
        """An upgrade beside a worker that does not move."""
        pid = self.daemon.stop(self.random.choice(self.daemon.workers("serving")))
        assert self.daemon.upgrade().ok
        assert pid not in self.daemon.processes()


@pytest.mark.parametrize("seed", range(4))
def test_nobody_gets_anothers(apihour_daemon, tmp_path, seed):
    keys = Keys(tmp_path, roles=())
    for number, role in enumerate(ROLES):
        keys.add(f"key{number}", role)
    with house(apihour_daemon, tmp_path, "--timeout", "60", "--graceful-timeout", "2",
               "--shell-python", keys=keys) as shell:
        attack = Attack(shell, seed)
        operators = [Operator(number, shell, attack) for number in range(len(ROLES))]
        for one in operators:
            one.start()
        until = time.monotonic() + 60
        try:
            while time.monotonic() < until and not any(one.wrong for one in operators):
                time.sleep(attack.random.random() * 2)
                attack.strike()
        finally:
            attack.over.set()
            for one in operators:
                one.join(60)
        wrong = [one.wrong for one in operators if one.wrong]
        assert not wrong, "\n".join(wrong)
        assert not any(one.is_alive() for one in operators)
        judge(shell, attack, operators)


def judge(shell, attack, operators):
    """Whose marks stand where."""
    audited = [(one["user"], one["command"]) for one in shell.audit()
               if MARK.search(one["command"])]
    for user, command in audited:
        assert {f"key{number}@test" for number in MARK.findall(command)} == {user}, command
    for one in operators:
        assert set(MARK.findall("".join(one.seen))) == {str(one.number)}
        own = [command for user, command in audited if user == f"{one.key}@test"]
        counts = [own.count(mark) for mark in one.answered]
        assert max(counts) == 1
        assert counts.count(0) <= attack.killed  # the answer was out, its entry was not
    assert [line for line in shell.daemon.lines
            if "internal error" in line or "Unhandled" in line or "Traceback" in line] == []
    print(f"{attack.done}: {[len(one.answered) for one in operators]} answers, "
          f"{[len(one.seen) for one in operators]} sessions")


def look(terminal):
    """What an operator looks at first, each within seconds."""
    terminal.run("workers", "WORKER", PATIENCE)
    terminal.run("conns", "", PATIENCE)
    terminal.type("top\r")
    terminal.expect("q quit", PATIENCE)
    terminal.type("q")
    terminal.expect("shell_house>", PATIENCE)


@pytest.mark.parametrize("how", ["stopped", "integer", "release", "regex", "sleep"])
def test_sessions_go_on_beside_a_stuck_worker_through_upgrades(apihour_daemon, tmp_path, how):
    keys = Keys(tmp_path, roles=("admin", "observer"))
    with house(apihour_daemon, tmp_path, "--timeout", "60", "--graceful-timeout", "2",
               keys=keys) as shell:
        daemon = shell.daemon
        for _ in range(4):
            with (shell.terminal() as admin, shell.terminal(role="observer") as observer,
                  daemon.connect("http") as sock):
                for one in (admin, observer):
                    one.expect("shell_house>", 30)
                if how == "stopped":
                    stuck = daemon.stop(daemon.workers("serving")[0])
                else:
                    sock.sendall(f"GET /stick/{how} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    stuck = 0
                before = daemon.pid
                daemon.signal(signal.SIGUSR2)
                while is_running(before):
                    for one in (admin, observer):
                        look(one)
                for one in (admin, observer):
                    look(one)
                    one.type("\x04")
                    assert one.ended(PATIENCE) == 0
            daemon.wait_ready()
            assert stuck not in daemon.processes()
