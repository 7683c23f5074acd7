"""Servers and jobs in one worker only: which one, and how they move; containers without binds."""

import signal
import threading
import time
from collections import Counter

import pytest

from tests.system.support import deploy, get, refused, run

ONE = '''
import asyncio, os, time

from house import Container as House


class Broker(asyncio.Protocol):
    """Says which process it is in; keeps the connection until told to close."""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"%d\\n" % os.getpid())

    def data_received(self, data):
        self.transport.write(b"%d\\n" % os.getpid())
        if data.startswith(b"close"):
            self.transport.close()


class Container(House):
    binds = {**House.binds, "broker": "127.0.0.1:0"}
    WHERE = {"broker", "tick"}

    async def tick(self):
        number = os.open("ticks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            while True:
                os.write(number, b"%f %d\\n" % (time.monotonic(), os.getpid()))
                await asyncio.sleep(0.02)
        finally:
            os.write(number, b"%f -%d\\n" % (time.monotonic(), os.getpid()))
            os.close(number)

    def make_servers(self):
        return {**super().make_servers(), "broker": Broker}
'''
QUIET = '''
import asyncio, apihour


class Container(apihour.Container):
    binds = None

    async def start(self):
        self.task = asyncio.ensure_future(self.work())

    async def work(self):
        while True:
            await self.shared.incr("work")
            await asyncio.sleep(0.02)

    async def cleanup(self):
        self.task.cancel()
'''


def where(daemon, timeout=15):
    """The process that answers at the broker, on a connection of its own."""
    with daemon.connect("broker", timeout) as sock:
        return int(sock.makefile().readline())


def ticks(app):
    return [(float(at), int(pid)) for at, pid in
            (line.split() for line in (app / "ticks").read_text().splitlines())]


def ticking(app, daemon, but=()):
    """Wait until the job runs in a process that is none of `but`; which one."""
    return daemon.wait(lambda: next(
        (pid for at, pid in reversed(ticks(app)) if pid > 0 and pid not in but
         and time.monotonic() - at < 1), 0), "the job")


@pytest.fixture
def start(apihour_daemon, app):
    def begin(attribute="single", *options, **keywords):
        deploy(app, None, "one.py", ONE.replace("WHERE", attribute))
        return apihour_daemon("one:Container", *options, cwd=app, **keywords)

    return begin


def test_a_server_and_a_job_are_in_one_worker_and_move_when_it_is_killed(start, app):
    daemon = start(workers=3)
    home = where(daemon)
    assert {where(daemon) for _ in range(20)} == {home}
    assert home in {worker.pid for worker in daemon.workers("serving")}
    for _ in range(2):
        job = ticking(app, daemon)
        began = time.monotonic()
        for pid in {home, job}:
            daemon.kill(pid)
        home = where(daemon)
        assert time.monotonic() - began < 10.0
        assert ticking(app, daemon, but={job})
        daemon.wait_ready(3)
    assert "Unhandled" not in daemon.log
    assert get(daemon)["pid"]


class Asking(threading.Thread):
    """Asks the broker again and again for where it is, on new connections."""

    def __init__(self, daemon):
        super().__init__()
        self.daemon_, self.seen, self.failed = daemon, [], []
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.005):
            try:
                self.seen.append((time.monotonic(), where(self.daemon_)))
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))

    def stop(self):
        self._over.set()
        self.join()


# Whatever forks a worker: a lock of fcntl(2) is nothing that a fork inherits.
@pytest.mark.parametrize("options", [(), ("--template",)], ids=["plain", "template"])
def test_through_two_reloads_and_an_upgrade_nothing_is_lost_and_no_two_jobs_run(
    start, app, options
):
    daemon = start("single", *options)
    asking = Asking(daemon)
    asking.start()
    homes = []
    try:
        for step in (daemon.reload, daemon.reload, daemon.upgrade):
            homes.append(where(daemon))
            outcome = step()
            assert outcome.ok, outcome.error
            daemon.wait(lambda: where(daemon) not in homes, "the broker's move")
    finally:
        asking.stop()
    assert not asking.failed
    assert len(Counter(pid for _, pid in asking.seen)) == 4
    ticking(app, daemon)
    running = 0
    for _, pid in ticks(app):  # each says when it has ended, before another begins
        assert running in (0, abs(pid)), ticks(app)
        running = pid if pid > 0 else 0
    daemon.terminate()


def test_single_goes_on_elsewhere_while_old_connections_drain(start):
    daemon = start("single", "--graceful-timeout", "20")
    old = where(daemon)
    with daemon.connect("broker") as held:
        assert int(held.makefile().readline()) == old
        assert daemon.reload().ok
        daemon.wait(lambda: where(daemon) != old, "the broker's move")
        held.sendall(b"still\n")
        assert int(held.makefile().readline()) == old


def test_exclusive_moves_only_when_the_last_connection_is_gone(start):
    daemon = start("exclusive", "--graceful-timeout", "20")
    old = where(daemon)
    held = daemon.connect("broker")
    lines = held.makefile()
    assert int(lines.readline()) == old
    assert daemon.reload().ok
    # Until then the old one may take in another.
    daemon.wait(lambda: old in {worker.pid for worker in daemon.workers("draining")}, "its drain")
    with daemon.connect("broker", 20) as waiting:
        waiting.settimeout(0.7)
        with pytest.raises(TimeoutError):
            waiting.recv(1)  # nobody else accepts meanwhile, and it is not refused
        held.sendall(b"still\n")
        assert int(lines.readline()) == old
        held.sendall(b"close\n")
        waiting.settimeout(20)
        assert int(waiting.makefile().readline()) != old
    held.close()


def test_two_daemons_have_one_each(start, app):
    first, second = start(), start()
    assert where(first) != where(second)
    home = where(second)
    first.kill(where(first))
    where(first)
    assert where(second) == home


def test_one_that_fails_is_tried_again_elsewhere_and_the_others_serve(start, app):
    daemon = start()
    deploy(app, None, "one.py", ONE.replace("WHERE", "single").replace(
        "        number = os.open(",
        "        raise RuntimeError('no queue')\n        number = os.open("))
    assert daemon.reload().ok
    daemon.wait_log("'tick' failed; next try in 1 s")
    daemon.wait_log("RuntimeError: no queue")
    daemon.wait_log("'tick' failed; next try", since=len(daemon.lines))
    assert get(daemon)["pid"]
    assert where(daemon)


@pytest.mark.parametrize(("name", "message"), [
    ("'brokr'", "one.Container.single: 'brokr'; expected the name of a server (http, echo, "
                "polite, udp, broker) or of an async method"),
    ("'make_servers'", "or of an async method"),
])
def test_a_name_of_nothing_is_refused_by_check_and_start(app, name, message):
    deploy(app, None, "one.py", ONE.replace("WHERE", "single").replace('"tick"', name))
    for words in (["check"], []):
        assert message in refused(*words, "one:Container", *(() if words else ("-w", "1")), cwd=app)


def test_a_single_server_on_reuse_port_is_refused(app):
    deploy(app, None, "one.py", ONE.replace("WHERE", "single"))
    line = refused("check", "one:Container", "-b", "broker=127.0.0.1:0?reuse_port", cwd=app)
    assert "server 'broker' has a bind with reuse_port" in line


# Containers that serve nothing


def test_a_container_without_binds_runs_reloads_upgrades_and_stops(apihour_daemon, app):
    deploy(app, None, "quiet.py", QUIET)
    daemon = apihour_daemon("quiet:Container", "--health", "127.0.0.1:0", cwd=app, console=True)
    assert "Listening at: @health" in daemon.log
    assert "Listening at: 1=" not in daemon.log
    assert daemon.reload().ok
    daemon.kill(daemon.workers("serving")[0])
    daemon.wait_ready(2)
    assert daemon.upgrade().ok
    daemon.signal(signal.SIGTTIN)
    daemon.wait(lambda: len(daemon.workers("serving")) == 3, "a third worker")
    daemon.terminate()
    assert "Unhandled" not in daemon.log
    assert not [line for line in daemon.lines if "[ERROR]" in line and "SIGKILL" not in line]


def test_check_of_a_container_without_binds(app):
    deploy(app, None, "quiet.py", QUIET)
    result = run("check", "quiet:Container", cwd=app)
    assert result.returncode == 0, result.stderr
    assert "8000" not in result.stdout


def test_no_servers_under_the_default_bind_says_how_to_say_so(app):
    deploy(app, None, "quiet.py", QUIET.replace("binds = None", "binds = {}"))
    line = refused("check", "quiet:Container", cwd=app)
    assert "a container that serves nothing says so: binds = None" in line
