"""examples/standalone.py as a user runs it: every plugin answers, apihour stays away."""

import contextlib
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "standalone.py"


@pytest.fixture
def running(tmp_path):
    """The process, and its lines by server."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")],
                   check=True)
    keys = tmp_path / "authorized_keys"
    keys.write_text((tmp_path / "id.pub").read_text())
    process = subprocess.Popen([sys.executable, str(EXAMPLE), str(keys)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        lines = {}
        while "udp" not in lines:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            name, _, words = line.strip().partition(": ")
            lines[name] = words.split()
        yield process, lines, tmp_path
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def port_of(words):
    return int(words[-1])


def test_every_plugin_serves_without_apihour(running):
    process, lines, directory = running
    assert set(lines) == {"http", "tcp", "ssh", "asgi", "udp"}

    with urllib.request.urlopen(lines["http"][1], timeout=10) as answer:
        assert answer.read() == b'{"hello":"you"}'
    with urllib.request.urlopen(lines["asgi"][1], timeout=10) as answer:
        assert answer.read() == b"hello from ASGI\n"
    with socket.create_connection(("127.0.0.1", port_of(lines["tcp"])), 10) as tcp:
        tcp.sendall(b"echo\n")
        assert tcp.recv(100) == b"echo\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(10)
        udp.sendto(b"shout", ("127.0.0.1", port_of(lines["udp"])))
        assert udp.recv(100) == b"SHOUT"
    ssh = subprocess.run(
        ["ssh", "-F", "none", "-i", str(directory / "id"), "-oStrictHostKeyChecking=no",
         f"-oUserKnownHostsFile={directory / 'known'}", "-oBatchMode=yes", "-oIdentitiesOnly=yes",
         "-p", lines["ssh"][-1], "you@127.0.0.1"],
        capture_output=True, text=True, timeout=30)
    assert (ssh.returncode, ssh.stdout) == (0, "hello you\n"), ssh.stderr

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == "apihour imported: False\n"
    assert (process.returncode, err) == (0, "")
