"""What servers take, by the shell of a real daemon: over reloads, deaths and an upgrade."""

import contextlib
import os
import signal
import socket
import threading

import pytest

from tests.system.shell_support import house, needs_ssh
from tests.system.support import echo
from tests.system.test_bans import connect

pytestmark = needs_ssh

ONE, OTHER = "127.0.0.81", "127.0.0.82"


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("limiting")) as found:
        yield found


def said(shell, name="echo"):
    """What the workers say of a server: states, and options."""
    rows = [row for row in shell.rows("servers") if row["name"] == name]
    return {row["state"] for row in rows}, {row["options"] for row in rows}


def kept(daemon, stack, source, count):
    """How many of some connections from there are served, while those before stay open."""
    found = 0
    for _ in range(count):
        sock = stack.enter_context(connect(daemon, "echo", source))
        sock.settimeout(30)
        with contextlib.suppress(OSError, EOFError):
            echo(sock)
            found += 1
    return found


def test_a_suspended_server_keeps_who_is_in_and_lets_nobody_in(shell):
    daemon = shell.daemon
    for role in ("observer", "operator"):
        done = shell.ssh("suspend", "echo", role=role)
        assert done.returncode == 126 and "admin" in done.stderr
    for words, told in ((["nobody"], "server 'nobody': expected one of"),
                        (["shell"], "expected one of")):
        done = shell.ssh("suspend", *words)
        assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(connect(daemon, "echo", ONE))
        echo(inside)
        rows = shell.rows("suspend", "echo")
        assert [row["state"] for row in rows] == ["suspended"] * 2
        outside = stack.enter_context(connect(daemon, "echo", ONE))
        outside.sendall(b"wait")
        outside.settimeout(0.5)
        with pytest.raises(TimeoutError):
            outside.recv(4)
        echo(inside)
        with connect(daemon, "http", ONE) as other:  # another server is none of its business
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(15) == b"HTTP/1.1 200 OK"
        # Workers that come later hold it too: by a reload, and in the place of one that died.
        shell.rows("reload", timeout=60)
        pids = {one.pid for one in daemon.workers("serving")}
        os.kill(min(pids), signal.SIGKILL)
        daemon.wait(lambda: len(daemon.workers("serving")) == 2
                    and {one.pid for one in daemon.workers("serving")} != pids, "a new worker")
        assert said(shell) == ({"suspended"}, {""})
        with pytest.raises(TimeoutError):
            outside.recv(4)
        resumed = {row["state"] for row in shell.rows("resume", "echo")}
        assert resumed - {""} == {"accepting"}  # one that drains accepts nothing
        outside.settimeout(30)
        assert outside.recv(4) == b"wait"
    lines = [row["command"] for row in shell.audit() if row.get("status") == 0]
    assert "suspend echo --json" in lines and "resume echo --json" in lines


def test_a_limit_holds_until_it_is_taken_back(shell):
    daemon = shell.daemon
    for words, told in (
        (["echo"], "expected OPTION=VALUE"), (["echo", "idle"], "'idle': expected OPTION=VALUE"),
        (["echo", "idle=soon"], "expected option 'idle' of a time"),
        (["echo", "--reset", "idel"], "'idel': expected one of limit, per_address"),
        (["nobody", "idle=3"], "expected one of http, echo"),
    ):
        done = shell.ssh("limit", *words)
        assert done.returncode == 2 and told in done.stderr, done
        assert len(done.stderr.splitlines()) == 1
    with contextlib.ExitStack() as stack:
        rows = shell.rows("limit", "echo", "per_address=1", "idle=1h")
        assert {row["options"] for row in rows} == {"per_address=1 idle=3600"}
        assert 1 <= kept(daemon, stack, ONE, 6) <= 2  # one in each worker
        assert kept(daemon, stack, OTHER, 1) == 1
    # Two operators at once: each has what it said, and nobody the other's undone.
    orders = [threading.Thread(target=shell.ctl, args=("limit", "echo", one))
              for one in ("keepalive=60", "nodelay=no", "rate=1000/s")]
    for one in orders:
        one.start()
    for one in orders:
        one.join()
    everything = "per_address=1 rate=1000/s idle=3600 keepalive=60 nodelay=no"
    assert said(shell) == ({"accepting"}, {everything})
    shell.rows("upgrade", timeout=60)
    shell.forget("admin")  # its session ends with the console before
    assert said(shell) == ({"accepting"}, {everything})
    rows = shell.rows("limit", "echo", "rate", "per_address", "keepalive", "--reset")
    assert {row["options"] for row in rows} == {"idle=3600 nodelay=no"}
    with contextlib.ExitStack() as stack:
        assert kept(daemon, stack, ONE, 6) == 6
    assert shell.ctl("limit", "echo", "--reset").returncode == 0
    assert said(shell) == ({"accepting"}, {""})


def test_what_the_bind_asks_holds_in_a_daemon(apihour_daemon, tmp_path):
    with house(apihour_daemon, tmp_path, "-b", "echo=127.0.0.1:0?per_address=1&idle=1s&over=close",
               workers=1) as shell:
        assert said(shell) == ({"accepting"}, {"per_address=1 over=close idle=1"})
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(connect(shell.daemon, "echo", ONE))
            echo(first)
            assert kept(shell.daemon, stack, ONE, 2) == 0
            first.settimeout(30)
            assert _is_closed(first)
        assert [row["refused"] for row in shell.rows("servers") if row["name"] == "echo"] == [2]
        shell.daemon.wait(lambda: [row["value"] for row in shell.rows(
            "metrics", "--filter", "name=apihour_server_closed_silent_total",
            "--filter", "labels~echo")] == [1], "its count")


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
