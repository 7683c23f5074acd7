"""Operators who get in while strangers flood the shell, or an application's own SSH."""

import contextlib
import selectors
import socket
import subprocess
import threading
import time

from tests.system.shell_support import Keys, house, needs_ssh

pytestmark = needs_ssh


class Flood:
    """Connections from ever other loopback addresses that never log in, until it is left.

    Each stays open and reads; one that is closed is opened anew from the next address. Bounded:
    at most `most` at a time, `a_second` new ones a second and `seconds` of them.
    """

    def __init__(self, port, most=1000, a_second=1000, seconds=60):
        self.port = port
        self.most = most
        self.pause = 1 / a_second
        self.until = time.monotonic() + seconds
        self.opened = 0
        self._selector = selectors.DefaultSelector()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._left.set()
        self._thread.join()

    def _run(self):
        try:
            while not self._left.is_set() and time.monotonic() < self.until:
                if len(self._selector.get_map()) < self.most:
                    self._open()
                for key, _ in self._selector.select(0):
                    self._read(key.fileobj)
                time.sleep(self.pause)
        finally:
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()
            self._selector.close()

    def _open(self):
        number = self.opened
        self.opened += 1
        sock = socket.socket()
        sock.bind((f"127.{1 + number // 62500 % 250}.{number // 250 % 250}.{1 + number % 250}", 0))
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self.port))
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock):
        try:
            if sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(sock)
        sock.close()


def log_in(shell, role, source, *words):
    """One login of an operator at that address; what went wrong, or nothing."""
    done = shell.ssh(*(words or ("version",)), role=role, shared=False, timeout=60,
                     options=["-b", source])
    return "" if done.returncode == 0 else f"{role}@{source}: {done.returncode} {done.stderr}"


def test_two_known_operators_get_in_through_a_flood_from_many_addresses(apihour_daemon, tmp_path):
    places = {"admin": "127.200.0.1", "operator": "127.200.0.2"}
    with house(apihour_daemon, tmp_path, workers=1) as shell:
        for role, source in places.items():
            assert log_in(shell, role, source) == ""
        with Flood(shell.port) as flood:
            shell.daemon.wait(lambda: flood.opened >= 1000, "the flood")
            wrong = [log_in(shell, role, source) for _ in range(10)
                     for role, source in places.items()]
            assert [one for one in wrong if one] == []
            assert flood.opened >= 1000
        networks = shell.keys.path / "shell_networks"
        assert networks.stat().st_mode & 0o777 == 0o600
        assert {line.split()[0] for line in networks.read_text().splitlines()} == set(
            places.values())


def test_two_operators_get_in_from_new_addresses_through_a_flood(apihour_daemon, tmp_path):
    """One try each, as a person would: a thousand held, and two hundred new ones a second."""
    with house(apihour_daemon, tmp_path, workers=1) as shell, \
            Flood(shell.port, most=100_000) as flood:
        shell.daemon.wait(lambda: flood.opened >= 1000, "the flood")
        flood.pause = 1 / 200
        wrong = [log_in(shell, role, f"127.{201 + place}.0.{1 + number}") for number in range(10)
                 for place, role in enumerate(("admin", "operator"))]
        assert [one for one in wrong if one] == []


def test_a_second_daemon_over_the_same_keys_knows_the_operators_of_the_first(
    apihour_daemon, tmp_path
):
    keys = Keys(tmp_path)
    source = "127.200.0.3"
    with house(apihour_daemon, tmp_path, keys=keys, workers=1) as first, \
            house(apihour_daemon, tmp_path, keys=keys, workers=1) as second:
        assert log_in(first, "admin", source) == ""
        with Flood(second.port) as flood:
            second.daemon.wait(lambda: flood.opened >= 500, "the flood")
            assert [log_in(second, "admin", source) for _ in range(5)] == [""] * 5


def test_wrong_keys_from_their_address_lock_no_operator_out(apihour_daemon, tmp_path):
    source = "127.200.0.4"
    with house(apihour_daemon, tmp_path, workers=1) as shell:
        shell.keys.make("stranger")
        assert log_in(shell, "admin", source) == ""
        command = shell.command("version", role="stranger", options=["-b", source])
        wrong = []
        try:
            for _ in range(200):
                wrong = [one for one in wrong if one.poll() is None]
                while len(wrong) >= 8:
                    wrong.pop(0).wait(60)
                wrong.append(subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL))
            began = time.monotonic()
            assert log_in(shell, "admin", source) == ""
            assert time.monotonic() - began < 30
        finally:
            for one in wrong:
                one.kill()
                one.wait()
