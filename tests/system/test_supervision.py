"""Workers that die, hang, grow or crash in a loop, and an arbiter that is gone."""

import os
import signal
import time

import pytest

from apihour.testing import Load
from apihour.testing.processes import is_running
from tests.system.shell_support import console_pid
from tests.system.support import deploy, echo, get


@pytest.fixture
def house(apihour_daemon, app):
    return apihour_daemon("house:Container", cwd=app)


def other_than(daemon, pids):
    """Whether as many workers serve as should, none of them of those pids."""
    serving = {worker.pid for worker in daemon.workers("serving")}
    return len(serving) == daemon.wanted and not serving & set(pids)


def worker_of(daemon, name="http", path="/"):
    """A keep-alive connection and the pid of the worker that serves it."""
    sock = daemon.connect(name)
    return sock, ask(sock, path)["pid"]


def ask(sock, path="/"):
    import json

    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    while not data.endswith(b"}"):
        chunk = sock.recv(65536)
        if not chunk:
            raise EOFError(data)
        data += chunk
    return json.loads(data.partition(b"\r\n\r\n")[2])


def test_kill_9_costs_that_workers_connections_only(house):
    socks = []

    def in_both():
        socks.append(worker_of(house))
        return {pid for _, pid in socks} == {worker.pid for worker in house.workers()}

    house.wait(in_both, "connections in both workers")
    victim = house.workers()[0].pid
    began = time.monotonic()
    house.kill(victim)
    house.wait(lambda: other_than(house, [victim]), "a replacement")
    assert time.monotonic() - began < 10
    for sock, pid in socks:
        if pid == victim:
            assert sock.recv(1) == b""
        else:
            assert ask(sock)["pid"] == pid
        sock.close()
    house.wait_log(r"Worker 1\.1 .* ended: killed by SIGKILL; replacing it")


def test_kill_9_under_load(house):
    with Load("connection", house.address("http"), connections=6) as load:
        for _ in range(4):
            load.wait_answers(50)
            victim = house.kill(house.workers("serving")[0])
            house.wait(lambda v=victim: other_than(house, [v]), "a replacement")
        load.wait_answers(50)
    # At most one request per client was in a killed worker, each time.
    assert load.report.lost <= 4 * 6, load.report
    assert load.report.ok > 10 * load.report.lost
    assert load.report.refused == 0


def test_crash_loop_backs_off_while_the_other_serves(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", cwd=app)
    deploy(app, None, text="raise RuntimeError('broken since')\n")
    first, second = daemon.workers()
    with Load("keep-alive", daemon.address("http"), connections=1) as load:
        # The load's one connection may be in either worker: kill the other one.
        load.wait_answers(5)
        victim = min(daemon.workers("serving"), key=lambda worker: worker.connections)
        daemon.kill(victim)
        daemon.wait(lambda: daemon.log.count("could not start") >= 3, "three tries")
        lines = [line for line in daemon.lines if "could not start" in line]
        delays = [float(line.rpartition("next try in ")[2].split()[0]) for line in lines]
        assert delays == sorted(delays)
        assert delays[-1] >= 4 * delays[0] > 0
        assert "broken since" in lines[0]
        load.wait_answers(10)
        deploy(app, "mended")
        daemon.wait_ready(timeout=10)
    assert not load.report.lost, load.report
    assert {first.slot, second.slot} == {worker.slot for worker in daemon.workers("serving")}


def test_max_requests_replacement_comes_first(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", "--max-requests", "200", "--max-requests-jitter", "50", cwd=app)
    first = {worker.pid for worker in daemon.workers()}
    fewest = daemon.wanted
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.002) as load:

        def are_replaced():
            nonlocal fewest
            fewest = min(fewest, len(daemon.workers("serving")))
            return not first & {worker.pid for worker in daemon.workers("serving")}

        daemon.wait(are_replaced, "both to be replaced")
        load.wait_answers(10)
    assert not load.report.lost, load.report
    assert fewest == daemon.wanted
    daemon.wait_log(r"has served \d+ requests \(--max-requests\)")


def test_max_age_and_max_rss(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--max-age", "1.5", cwd=app, workers=1)
    first = daemon.workers()[0].pid
    with Load("keep-alive", daemon.address("http"), connections=2, think=0.005) as load:
        daemon.wait(lambda: other_than(daemon, [first]), "its replacement")
        load.wait_answers(5)
    assert not load.report.lost, load.report
    daemon.wait_log("--max-age")
    daemon.terminate()

    daemon = apihour_daemon("house:Container", "--max-rss", "300M", cwd=app)
    before = [worker.pid for worker in daemon.workers()]
    with Load("keep-alive", daemon.address("http"), connections=2, think=0.005) as load:
        grown = get(daemon, "/fill/300")["pid"]
        daemon.wait(lambda: other_than(daemon, [grown]), "its replacement")
        load.wait_answers(5)
    assert not load.report.lost, load.report
    assert (set(before) - {grown}) & {worker.pid for worker in daemon.workers()}
    daemon.wait_log(r"holds 3\d\d MiB \(--max-rss 300 MiB\)")


# A plain def runs inside the parser's callback, which takes an exit for an error.
@pytest.mark.alone
@pytest.mark.parametrize("endpoint", ["block", "stuck"])
def test_blocked_loop_is_logged_at_half_the_timeout_and_killed_at_the_timeout(
        apihour_daemon, app, endpoint):
    daemon = apihour_daemon("house:Container", "--timeout", "2", cwd=app)
    sock, victim = worker_of(daemon)
    with sock, Load("connection", daemon.address("http"), connections=2, think=0.01,
                    timeout=30) as load:
        load.wait_answers(5)
        began = time.monotonic()
        sock.sendall(f"GET /{endpoint}/30 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        daemon.wait_log(rf"pid: {victim}\) is blocked for")
        logged = time.monotonic() - began
        # The very line it hangs on, from the user's own file.
        daemon.wait_log(rf'house\.py", line \d+ in {endpoint}')
        daemon.wait_log("WORKER TIMEOUT")
        killed = time.monotonic() - began
        daemon.wait(lambda: other_than(daemon, [victim]), "its replacement")
        load.wait_answers(5)
    assert 0.7 < logged < 1.7  # after the last beat, up to a quarter of a second before
    assert 1.7 < killed < 3
    assert load.report.lost <= 2, load.report


def test_short_block_is_survived(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--timeout", "2", cwd=app, workers=1)
    sock, pid = worker_of(daemon)
    with sock:
        assert ask(sock, "/block/1.3")["pid"] == pid
        daemon.wait_log("is blocked for")
        daemon.wait(lambda: daemon.workers()[0].silent < 0.5, "its heartbeat")
        assert ask(sock)["pid"] == pid
    assert "TIMEOUT" not in daemon.log


def test_stopped_worker_has_no_stack_and_the_log_says_so(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--timeout", "2", cwd=app)
    socks = [worker_of(daemon) for _ in range(6)]
    victim = daemon.stop(daemon.workers()[0])
    # While it is stopped, only its own connections wait; new ones go to the other.
    for sock, pid in socks:
        if pid != victim:
            assert ask(sock)["pid"] == pid
    for _ in range(10):
        assert get(daemon, timeout=5)["pid"] != victim
    daemon.wait_log(f"process {victim} is stopped by a signal")
    daemon.wait(lambda: other_than(daemon, [victim]), "its replacement")
    for sock, _ in socks:
        sock.close()


def test_stopped_and_continued_worker_stays(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--timeout", "30", cwd=app)
    socks = [worker_of(daemon) for _ in range(4)]
    victim = daemon.stop(daemon.workers()[0])
    daemon.wait(lambda: daemon.workers()[0].silent > 1, "its silence")
    daemon.cont(victim)
    for sock, pid in socks:
        assert ask(sock)["pid"] == pid
        sock.close()


def test_orphans_finish_what_they_hold_and_leave(house):
    pids = house.processes()
    address = house.address("http")
    with house.connect("http") as stream, house.connect("echo") as session:
        echo(session)
        stream.sendall(b"GET /stream?seconds=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
        os.kill(house.pid, signal.SIGKILL)
        house.process.wait(10)
        # They close their listeners within a second, and finish.
        house.wait(lambda: not accepts(address), "the listener's end", timeout=1.5)
        echo(session)
        data = b""
        while chunk := stream.recv(65536):
            data += chunk
        assert data.endswith(b"0\r\n\r\n")
        echo(session)
        session.close()
        house.wait(lambda: not house.processes(), "the workers' end", timeout=10)
    assert not [pid for pid in pids if is_running(pid)]
    assert "the arbiter is gone, retiring" in house.log


def accepts(address):
    import socket

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_orphan_with_a_blocked_loop_ends_within_the_graceful_timeout(apihour_daemon, app):
    daemon = apihour_daemon(
        "house:Container", "--graceful-timeout", "2", cwd=app, workers=1, console=True,
        env={"HOME": str(app)})
    sock, _ = worker_of(daemon)
    with sock:
        sock.sendall(b"GET /block/60 HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon.wait(lambda: daemon.workers()[0].silent > 0.6, "the block")
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.process.wait(10)
        daemon.wait(lambda: not daemon.processes(), "the orphan's end", timeout=8)


def test_killed_console_is_started_again_and_no_worker_notices(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--health", "127.0.0.1:0", cwd=app, console=True)
    health = daemon.address("@health")
    daemon.wait(lambda: accepts(health), "the console")
    workers = {worker.pid for worker in daemon.workers()}
    console = daemon.wait(lambda: console_pid(daemon), "its process")
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.005) as load:
        load.wait_answers(20)
        os.kill(console, signal.SIGKILL)
        daemon.wait_log(rf"Console \(pid: {console}\) ended")
        daemon.wait(lambda: console_pid(daemon) not in (0, console), "a new console")
        load.wait_answers(20)
    assert not load.report.lost, load.report
    assert {worker.pid for worker in daemon.workers()} == workers


SOONER = """
from apihour.arbiter.autoscale import Autoscaler
Autoscaler.UP_AFTER, Autoscaler.DOWN_AFTER = 1.0, 2.0
"""


@pytest.mark.alone  # a loop that is late for others' work asks for a worker too
def test_number_of_workers_follows_the_load_up_and_down(apihour_daemon, app):
    (app / "conf.py").write_text(SOONER)  # which the arbiter runs
    daemon = apihour_daemon("house:Container", "--workers", "2..3", "-c", "conf.py", cwd=app,
                            workers=None)
    daemon.wait_ready(2)
    http = daemon.address("http")
    with Load("keep-alive", http, connections=6, think=0.02) as kept, Load(
            "connection", http, connections=2, think=0.02, timeout=60) as short:
        with Load("connection", http, path="/spin/0.1", connections=16,
                  timeout=60) as spin:
            daemon.wait(lambda: len(daemon.workers("serving")) == 3, "a third worker")
            spin.wait_answers(4)
        daemon.wait_log("2 workers wanted, 3 before")
        daemon.wait_log(r"Worker 3\.1 retired")
        assert len(daemon.workers("serving")) == 2
        for load in (kept, short):
            load.wait_answers(20)
    assert not kept.report.lost + short.report.lost + spin.report.lost, (kept.report, short.report)
    daemon.wait_log("3 workers wanted, 2 before")


SLOW_SECOND = '''
import asyncio, os, apihour
from house import Container as House


class Container(House):
    async def start(self):
        try:
            os.open("second", os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            await asyncio.sleep(2)
'''


def test_a_first_worker_killed_while_another_serves_is_replaced(apihour_daemon, app):
    (app / "slowly.py").write_text(SLOW_SECOND)
    daemon = apihour_daemon("slowly:Container", cwd=app, wait=False)
    daemon.wait(lambda: len(daemon.workers("serving")) == 1, "the first worker")
    starting = daemon.wait(lambda: daemon.workers("starting"), "the second")
    daemon.kill(starting[0])
    daemon.wait_log("could not start.*killed by SIGKILL.*next try")
    daemon.wait_ready(2)
    assert daemon.terminate() == 0
