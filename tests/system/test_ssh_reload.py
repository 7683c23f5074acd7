"""SSH of an application through reloads: connections that clients keep lose no command."""

import logging
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.system.shell_support import Keys, needs_ssh

paramiko = pytest.importorskip("paramiko")
pytestmark = needs_ssh

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def served(apihour_daemon, tmp_path):
    keys = Keys(tmp_path, ("admin", "operator"))
    daemon = apihour_daemon("commands:Container", "--keys", str(keys.path),
                            "--graceful-timeout", "20", cwd=APPS, workers=2)
    return daemon, keys, daemon.port("ssh")


class Client(threading.Thread):
    """Runs one command after the other, on one connection for as long as it lasts."""

    def __init__(self, leave):
        super().__init__()
        self.leave = leave
        self.done = 0
        self.connected = 0
        self.lost = []

    def run(self):
        try:
            while not self.leave.is_set():
                self.one()
        finally:
            self.end()

    def one(self):
        text = f"n{self.done}"
        try:
            answer = self.command(f"echo {text}")
        except Exception as error:
            self.lost.append(repr(error))
        else:
            if answer != (0, text):
                self.lost.append(answer)
        self.done += 1
        self.pause()

    def pause(self):
        time.sleep(random.uniform(0.1, 0.3))


class Paramiko(Client):
    def __init__(self, leave, port, key):
        super().__init__(leave)
        self.port, self.key = port, str(key)
        self.client = None

    def command(self, line):
        transport = self.client and self.client.get_transport()
        if transport is None or not transport.is_active():
            self.end()
            self.client = paramiko.SSHClient()
            self.client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            self.client.connect("127.0.0.1", self.port, "x", key_filename=self.key, timeout=30,
                                look_for_keys=False, allow_agent=False)
            self.connected += 1
        _, out, _ = self.client.exec_command(line, timeout=30)
        text = out.read().decode().strip()
        return out.channel.recv_exit_status(), text

    def end(self):
        if self.client is not None:
            self.client.close()


class Master(Client):
    """OpenSSH with ``ControlMaster=auto``."""

    def __init__(self, leave, port, key, directory):
        super().__init__(leave)
        self.words = [
            "ssh", "-F", "/dev/null", "-i", str(key), "-p", str(port), "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", f"ControlPath={directory}/%C", "-o", "ControlMaster=auto",
            "-o", "ControlPersist=60", "x@127.0.0.1"]

    def command(self, line):
        done = subprocess.run([*self.words, line], stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.returncode, done.stdout.decode().strip()

    def end(self):
        subprocess.run([*self.words[:-1], "-O", "exit", self.words[-1]], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)


def test_kept_connections_lose_no_command_through_reloads(served, tmp_path_factory):
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    daemon, keys, port = served
    leave = threading.Event()
    clients = [
        Paramiko(leave, port, keys["admin"]), Paramiko(leave, port, keys["operator"]),
        Master(leave, port, keys["admin"], tmp_path_factory.mktemp("a")),
        Master(leave, port, keys["operator"], tmp_path_factory.mktemp("o")),
    ]
    for one in clients:
        one.start()
    try:
        for _ in range(4):
            before = [one.done for one in clients]
            daemon.wait(lambda before=before: all(
                one.done >= was + 4 for one, was in zip(clients, before, strict=True)),
                "commands on kept connections", timeout=60)
            assert daemon.reload().ok
        daemon.wait(lambda: all(one.connected >= 3 for one in clients[:2]), "new connections",
                    timeout=60)
    finally:
        leave.set()
        for one in clients:
            one.join(90)
    assert [one.lost for one in clients] == [[]] * 4
    # Few logins: the connections were really kept.
    assert all(one.connected <= 8 < one.done for one in clients[:2])
