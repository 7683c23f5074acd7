"""examples/one_port.py: four protocols on one port, two clients each, through a reload."""

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.system.shell_support import ctl

EXAMPLE = Path(__file__).parents[2] / "examples" / "one_port.py"
PATIENCE = 30


@pytest.fixture(scope="module")
def house(apihour_module_daemon, tmp_path_factory):
    directory = tmp_path_factory.mktemp("port")
    authority = Authority(directory)
    authority.issue("server")
    shutil.copy(EXAMPLE, directory)
    (directory / "keys").mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "id")],
                   check=True)
    users = directory / "keys" / "one_port_users"
    users.write_text((directory / "id.pub").read_text())
    users.chmod(0o600)
    daemon = apihour_module_daemon(
        "one_port:Container", "--certfile", "server.pem", "-b", "edge=127.0.0.1:0?tls",
        cwd=directory, console=True, workers=2)
    daemon.authority = authority
    daemon.home = directory
    return daemon


def run(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=PATIENCE * 2)
    assert done.returncode == 0, done.stderr
    return done.stdout


def http(house):
    assert json.loads(run("curl", "-sS", f"http://{house.address('edge')}/")) == {
        "scheme": "http"}


def https(house):
    assert json.loads(run("curl", "-sS", "--cacert", house.authority.path,
                          f"https://{house.address('edge')}/")) == {"scheme": "https"}


def ssh(house):
    said = run("ssh", "-F", "none", "-i", house.home / "id", "-o", "BatchMode=yes",
               "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-p", house.port("edge"), "me@127.0.0.1")
    assert said == "hello from SSH\n"


def raw(house):
    with house.connect("edge", PATIENCE) as sock:
        for byte in b"\x01\x02\x03":
            sock.sendall(bytes([byte]))
            assert sock.recv(1) == bytes([byte])


def raw_in_tls(house):
    with house.authority.client().wrap_socket(
            house.connect("edge", PATIENCE), server_hostname="127.0.0.1") as sock:
        sock.sendall(b"\x01hello")
        assert sock.recv(6) == b"\x01hello"


TALKS = [http, https, ssh, raw, raw_in_tls]


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.__name__)
def test_two_clients_get_what_they_speak(house, talk):
    for _ in range(2):
        talk(house)


def test_conns_tell_them_apart_and_a_reload_keeps_what_is_open(house):
    with house.connect("edge", PATIENCE) as one, house.connect("edge", PATIENCE) as two:
        one.sendall(b"\x01")
        assert one.recv(1) == b"\x01"
        two.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert two.recv(1000).startswith(b"HTTP/1.1 200 ")
        rows = json.loads(ctl(house, "conns", "--json").stdout)
        assert {(row["server"], row["protocol"]) for row in rows} == {
            ("edge/default", "tcp"), ("edge/http", "http")}
        shown = json.loads(ctl(house, "servers", "--json").stdout)
        assert sum(row["connections"] for row in shown if row["name"] == "edge") == 2
        assert house.reload().ok
        one.sendall(b"\x02")
        assert one.recv(1) == b"\x02"
        two.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert two.recv(1000).startswith(b"HTTP/1.1 200 ")
        two.shutdown(socket.SHUT_RDWR)
    for talk in TALKS:
        talk(house)
