"""``?reuse_port``: one socket per worker slot, while workers, reloads and kills come and go."""

import os
import signal
import socket
import time

import pytest

from tests.system.support import deploy, get

REUSE = ("-b", "http=127.0.0.1:0?reuse_port", "-b", "udp=udp://127.0.0.1:0?reuse_port")
SLOW = "import asyncio, apihour\nVERSION = '2'\nasync def start(self):\n" \
       "    await asyncio.sleep(1.5)\napihour.Container.start = start\n"


@pytest.fixture
def start(apihour_daemon, app):
    return lambda *options, **keywords: apihour_daemon(
        "house:Container", *REUSE, "--boot-timeout", "20", *options, cwd=app, **keywords)


def ask_udp(daemon, count=20):
    """One datagram from each of so many sockets, so that every slot gets some."""
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(15)
            sock.connect(("127.0.0.1", daemon.port("udp")))
            sock.send(b"datagram")
            assert sock.recv(100) == b"DATAGRAM"


def generations(daemon):
    return {worker.generation for worker in daemon.workers()}


def serves(daemon, count, generation):
    found = daemon.workers("serving")
    return (len(found) == count and generations(daemon) == {generation})


def test_fewer_and_more_workers_during_a_reload(start, app):
    daemon = start()
    daemon.signal(signal.SIGTTIN)
    daemon.wait(lambda: len(daemon.workers("serving")) == 3, "a third worker")
    deploy(app, None, text=SLOW)
    daemon.signal(signal.SIGHUP)
    daemon.wait(lambda: generations(daemon) == {1, 2}, "the new workers to start")
    daemon.signal(signal.SIGTTOU)
    daemon.wait_log("Reload done")
    daemon.wait(lambda: serves(daemon, 2, 2), "two workers of the new generation")
    ask_udp(daemon)
    for worker in daemon.workers("serving"):  # the sockets of their slots are still there
        daemon.kill(worker)
    daemon.wait(lambda: serves(daemon, 2, 2), "their replacements")
    ask_udp(daemon)
    daemon.signal(signal.SIGHUP)
    daemon.wait(lambda: 3 in generations(daemon), "the next reload")
    daemon.signal(signal.SIGTTIN)
    daemon.wait(lambda: serves(daemon, 3, 3), "three workers")
    ask_udp(daemon)
    assert get(daemon)["version"] == "2"
    assert daemon.terminate() == 0
    assert "Unhandled" not in daemon.log


def test_a_reload_refused_after_the_number_has_changed_closes_its_sockets_only(start, app):
    daemon = start()
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    deploy(app, None, text=SLOW.replace("await asyncio.sleep(1.5)",
                                        "await asyncio.sleep(1.5); 1 / 0"))
    daemon.signal(signal.SIGHUP)
    daemon.wait(lambda: generations(daemon) == {1, 2}, "the new workers to start")
    daemon.signal(signal.SIGTTIN)
    daemon.signal(signal.SIGTTIN)
    daemon.signal(signal.SIGTTOU)
    daemon.wait_log("Reload refused")
    deploy(app, "1")
    daemon.wait(lambda: len(daemon.workers()) == len(daemon.workers("serving")), "rest")
    daemon.scale(2)
    ask_udp(daemon)
    daemon.wait(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) == before, "no more descriptors")
    assert "Unhandled" not in daemon.log


def test_no_datagram_goes_to_a_slot_that_was_given_up(start):
    daemon = start(workers=3)
    daemon.scale(2)
    daemon.wait(lambda: len(daemon.workers()) == 2, "the third to leave")
    ask_udp(daemon, 40)


def test_two_generations_share_the_sockets_and_two_upgrades_keep_them(start):
    daemon = start()
    for generation in (2, 3):
        assert daemon.upgrade().ok
        daemon.wait(lambda g=generation: serves(daemon, 2, g), "the new arbiter's workers")
        ask_udp(daemon)
        for _ in range(10):
            get(daemon)
    began = time.monotonic()
    daemon.terminate()
    assert time.monotonic() - began < 20
    assert "Unhandled" not in daemon.log
