"""Where servers listen: every kind of address, with real clients."""

import os
import socket
import stat
import sys

import pytest

from tests.ports import free_port
from tests.system.support import echo, get, refused

# What systemd does before exec: sockets from descriptor 3 on, and the variables that say so.
LAUNCHER = """
import os, socket, sys
names, listeners = sys.argv[1].split(":"), []
for name in names:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    if name != "udp":
        sock.listen(50)
    listeners.append(sock)
high = [os.dup2(sock.fileno(), 100 + i) for i, sock in enumerate(listeners)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)),
                  LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.executable, [sys.executable, "-m", "apihour", *sys.argv[2:]])
"""


def test_tcp_v4_and_v6_on_port_0_is_logged(apihour_daemon, system_apps):
    daemon = apihour_daemon(
        "plain:Container", "-b", "echo=127.0.0.1:0", "-b", "echo=[::1]:0", cwd=system_apps)
    found = [line.rpartition("echo=")[2] for line in daemon.lines if "Listening at" in line]
    assert len(found) == 2
    assert found[0].startswith("127.0.0.1:")
    assert found[1].startswith("[::1]:")
    for address in found:
        host, _, port = address.rpartition(":")
        assert int(port) > 0
        with socket.create_connection((host.strip("[]"), int(port)), 5) as sock:
            echo(sock)


def test_unix_socket_mode_stale_path_and_removal(apihour_daemon, system_apps, tmp_path):
    path = tmp_path / "echo.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # its owner goes without removing it
    daemon = apihour_daemon("plain:Container", "-b", f"echo=unix:{path}?mode=660", cwd=system_apps)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with daemon.connect("echo") as sock:
        echo(sock)
    # A second daemon finds that path in use, and leaves it alone.
    line = refused("plain:Container", "-b", f"echo=unix:{path}", "--no-console", cwd=system_apps)
    assert str(path) in line
    assert "in use" in line
    with daemon.connect("echo") as sock:
        echo(sock)
    assert daemon.terminate() == 0
    assert not path.exists()


def test_abstract_unix_socket(apihour_daemon, system_apps):
    name = f"@apihour-test-{os.getpid()}"
    daemon = apihour_daemon("plain:Container", "-b", f"echo=unix:{name}", cwd=system_apps)
    assert daemon.address("echo") == f"unix:{name}"
    with daemon.connect("echo") as sock:
        echo(sock)


def test_udp(apihour_daemon, system_apps):
    daemon = apihour_daemon("plain:Udp", "-b", "udp=udp://127.0.0.1:0", cwd=system_apps)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", daemon.port("udp")))
        for number in range(20):
            sock.send(b"%d" % number)
            assert sock.recv(100) == b"%d" % number


def test_inherited_descriptor(apihour_daemon, system_apps):
    launcher = LAUNCHER.replace("os.environ.update", "(lambda **_: None)")
    daemon = apihour_daemon(
        "plain:Container", "-b", "echo=fd://3", cwd=system_apps,
        command=(sys.executable, "-c", launcher, "echo"))
    with daemon.connect("echo") as sock:
        echo(sock)


def test_systemd_sockets_by_name_held_across_reload_and_two_upgrades(apihour_daemon, system_apps):
    daemon = apihour_daemon(
        "house:Container", "-b", "http=systemd:web", "-b", "udp=systemd:udp", cwd=system_apps,
        command=(sys.executable, "-c", LAUNCHER, "web:udp"))
    port = daemon.port("http")
    for step in (daemon.reload, daemon.upgrade, daemon.upgrade):
        outcome = step()
        assert outcome.ok, outcome
        assert get(daemon)["version"] == "1"
        assert daemon.port("http") == port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", daemon.port("udp")))
            sock.send(b"hello")
            assert sock.recv(100) == b"HELLO"


def test_environment_file_and_command_line_override_by_name(apihour_daemon, system_apps, tmp_path):
    ports = [free_port() for _ in range(3)]
    config = tmp_path / "conf.py"
    config.write_text(f"bind = ['echo=127.0.0.1:{ports[0]}', 'polite=127.0.0.1:{ports[0]}']\n")
    daemon = apihour_daemon(
        "house:Container", "-c", str(config), "-b", f"echo=127.0.0.1:{ports[2]}",
        cwd=system_apps, env={"APIHOUR_BIND_POLITE": f"127.0.0.1:{ports[1]}"})
    assert daemon.port("echo") == ports[2]
    assert daemon.port("polite") == ports[1]
    with daemon.connect("polite") as sock:
        echo(sock)


def test_reuse_port(apihour_daemon, system_apps):
    daemon = apihour_daemon("plain:Container", "-b", "echo=127.0.0.1:0?reuse_port", cwd=system_apps)
    for _ in range(10):
        with daemon.connect("echo") as sock:
            echo(sock)
    assert daemon.reload().ok
    with daemon.connect("echo") as sock:
        echo(sock)


@pytest.mark.parametrize("limit", ["?limit=2", ""])
def test_limit_leaves_further_connections_waiting(apihour_daemon, system_apps, limit):
    options = [] if limit else ["--worker-connections", "2"]
    daemon = apihour_daemon(
        "plain:Container", "-b", f"echo=127.0.0.1:0{limit}", *options, workers=1, cwd=system_apps)
    held = [daemon.connect("echo") for _ in range(3)]
    try:
        for sock in held[:2]:
            echo(sock)
        held[2].sendall(b"patience")
        held[2].settimeout(0.3)
        with pytest.raises(TimeoutError):
            held[2].recv(1)
        held[0].close()
        held[2].settimeout(5)
        assert held[2].recv(100) == b"patience"
    finally:
        for sock in held:
            sock.close()
