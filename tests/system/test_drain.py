"""Goodbyes in each protocol's own words, and the time each is given."""

import signal
import socket
import time

import pytest

from apihour.testing import Load
from tests.system.support import echo, get

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


@pytest.fixture
def house(apihour_daemon, system_apps):
    return apihour_daemon("house:Container", "--graceful-timeout", "60", "--linger", "2",
                          cwd=system_apps, workers=1)


def retire(daemon):
    """Reload, and return when the old worker drains."""
    assert daemon.reload().ok
    daemon.wait(lambda: daemon.workers("draining") or len(daemon.workers()) == 1, "the drain")


def answer(sock):
    """Read one whole answer; returns its head."""
    data = b""
    while not data.endswith(b"}"):
        chunk = sock.recv(65536)
        assert chunk, data
        data += chunk
    return data.partition(b"\r\n\r\n")[0].lower()


def test_http_keep_alive_is_answered_once_more_with_close(house):
    with house.connect("http") as idle, house.connect("http") as fresh:
        idle.sendall(REQUEST)
        assert b"connection: close" not in answer(idle)
        retire(house)
        # Both may be about to speak: the one that is idle, and the one that never spoke.
        for sock in (idle, fresh):
            sock.sendall(REQUEST)
            assert b"connection: close" in answer(sock)
            assert sock.recv(1) == b""
    house.wait(lambda: len(house.workers()) == 1, "its end", timeout=10)


def test_silent_connections_are_closed_after_linger(house):
    with house.connect("http") as idle, house.connect("http") as fresh:
        idle.sendall(REQUEST)
        answer(idle)
        began = time.monotonic()
        retire(house)
        assert idle.recv(1) == b""
        assert 1.5 < time.monotonic() - began < 20
        assert fresh.recv(1) == b""
        assert time.monotonic() - began < 20  # far from the graceful timeout
    house.wait(lambda: len(house.workers()) == 1, "its end", timeout=10)


def test_pipelined_and_half_sent_requests_are_answered(house):
    with house.connect("http") as sock:
        sock.sendall(REQUEST[:20])
        retire(house)
        sock.sendall(REQUEST[20:] + REQUEST)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data.count(b"HTTP/1.1 200") >= 1
    assert data.lower().count(b"connection: close") == 1
    # What was not answered came after the close that was announced.
    assert data.endswith(b"}")


def test_websocket_gets_1001_and_time_to_answer(house):
    with house.connect("http") as sock:
        sock.sendall(UPGRADE)
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x81\x85\0\0\0\0hello")
        assert sock.recv(100) == b"\x81\x05hello"
        retire(house)
        frame = sock.recv(100)
        assert frame[0] == 0x88
        assert frame[2:4] == (1001).to_bytes(2, "big")
        time.sleep(0.5)  # the client takes its time
        assert house.workers("draining")
        sock.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
        assert sock.recv(1) == b""
    house.wait(lambda: len(house.workers()) == 1, "its end", timeout=10)


def test_tcp_on_drain_is_called_and_others_stay_until_the_deadline(apihour_daemon, system_apps):
    daemon = apihour_daemon("house:Container", "--graceful-timeout", "3", cwd=system_apps,
                            workers=1)
    with daemon.connect("polite") as polite, daemon.connect("echo") as stubborn:
        echo(polite)
        echo(stubborn)
        retire(daemon)
        began = time.monotonic()
        assert polite.recv(100) == b"goodbye\n"
        echo(polite)
        assert polite.recv(1) == b""
        assert time.monotonic() - began < 2.5
        echo(stubborn)
        daemon.wait(lambda: [one.left for one in daemon.workers("draining")] == [1],
                    "the count of those left")
        worker = daemon.workers("draining")[0]
        assert worker.drain_total == 2
        assert 0 < worker.time_left < 3
        assert stubborn.recv(1) == b""
        assert time.monotonic() - began > 1.5


def test_udp_answers_through_reloads(house):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", house.port("udp")))
        sock.settimeout(5)
        for _ in range(3):
            house.reload(wait=False)
            since = len(house.lines)
            for number in range(200):
                sock.send(b"n%d" % number)
                assert sock.recv(100) == b"N%d" % number
            house.wait_log("Reload done", since=since)


def test_drain_of_one_worker_and_back(apihour_daemon, system_apps):
    daemon = apihour_daemon("house:Container", cwd=system_apps)
    first, second = daemon.workers()
    assert daemon.request("drain", worker=first.worker).ok
    daemon.wait(lambda: not daemon.workers()[0].accepting, "its rest")
    assert {get(daemon)["pid"] for _ in range(20)} == {second.pid}
    assert daemon.request("undrain", worker=first.worker).ok
    daemon.wait(lambda: daemon.workers()[0].accepting, "its return")
    held = []

    def is_back():
        held.append(daemon.connect("echo"))
        echo(held[-1])
        return daemon.workers()[0].connections

    daemon.wait(is_back, "a connection to it")
    for sock in held:
        sock.close()
    assert "expected one of" in daemon.request("drain", worker="9.9").error


def test_stop_waits_for_slow_answers_and_loses_none(apihour_daemon, system_apps):
    daemon = apihour_daemon("house:Container", "--linger", "1", cwd=system_apps)
    with Load("keep-alive", daemon.address("http"), path="/slow", connections=8,
              think=(0.0, 0.1)) as load:
        load.wait_answers(40)
        daemon.signal(signal.SIGTERM)
        daemon.wait(lambda: load.report.refused, "the listener's end")
    assert daemon.wait_exit() == 0
    # A refused connection is no lost request: nobody had taken it.
    assert load.report.lost == load.report.refused, load.report


def test_drain_delay_turns_unready_first(apihour_daemon, system_apps):
    daemon = apihour_daemon(
        "house:Container", "--drain-delay", "1.5", "--health", "127.0.0.1:0", "--console",
        "127.0.0.1:0", cwd=system_apps, console=True)
    health = daemon.wait(lambda: _health(daemon), "the health address")
    daemon.wait(lambda: status(health, "/readyz") == 200, "readiness")
    assert status(health, "/livez") == 200
    began = time.monotonic()
    with Load("connection", daemon.address("http"), connections=2, think=0.01) as load:
        load.wait_answers(5)
        daemon.signal(signal.SIGTERM)
        daemon.wait(lambda: status(health, "/readyz") == 503, "unreadiness", timeout=1.4)
        load.wait_answers(10)  # it goes on serving meanwhile
        daemon.wait(lambda: load.report.refused, "the listener's end")
    assert 1.4 < time.monotonic() - began < 4
    assert load.report.lost == load.report.refused, load.report
    assert daemon.wait_exit() == 0


def _health(daemon):
    try:
        return daemon.address("@health")
    except LookupError:
        return ""


def status(address, path):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 2) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return int(sock.recv(1000).split()[1])
    except OSError:
        return 0
