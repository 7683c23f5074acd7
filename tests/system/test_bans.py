"""Bans in a real daemon: every worker and bind, the shell, over reloads, deaths and their end."""

import contextlib
import os
import signal
import socket

import pytest

from tests.system.shell_support import Keys, house, needs_ssh
from tests.system.support import echo

pytestmark = needs_ssh

BANNED, OTHER = "127.0.0.77", "127.0.0.78"


@pytest.fixture
def shell(apihour_daemon, tmp_path):
    with house(apihour_daemon, tmp_path) as found:
        yield found


def connect(daemon, name, source):
    """A connection to that server from an address of this machine."""
    host, _, port = daemon.address(name).rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), 30, source_address=(source, 0))


def is_served(daemon, source, name="echo"):
    with contextlib.suppress(OSError, EOFError), connect(daemon, name, source) as sock:
        sock.settimeout(30)
        echo(sock)
        return True
    return False


def served(daemon, source, count=6):
    """How many of some connections from there are served: with two workers, both are met."""
    return sum(is_served(daemon, source) for _ in range(count))


def test_a_ban_holds_everywhere_until_it_is_ended(shell, apihour_daemon, tmp_path_factory):
    daemon = shell.daemon
    with contextlib.ExitStack() as stack:
        open_before = [stack.enter_context(connect(daemon, "echo", BANNED)) for _ in range(4)]
        bystander = stack.enter_context(connect(daemon, "echo", OTHER))
        for one in (*open_before, bystander):
            echo(one)
        done = shell.ssh("ban", BANNED, role="observer")
        assert done.returncode == 126
        [row] = shell.rows("ban", f"{BANNED}:4711", "--for", "1h", role="operator")
        assert (row["network"], row["closed"]) == (f"{BANNED}/32", 4) and 3590 < row["left"] <= 3600
        assert [one.recv(1) for one in open_before] == [b""] * 4
        echo(bystander)
    assert served(daemon, BANNED) == 0 and served(daemon, OTHER) == 6
    with connect(daemon, "http", BANNED) as sock:
        assert sock.recv(1) == b""
    # A second operator sees it, with who did it; the other daemon of this user does not have it.
    [row] = shell.rows("bans", role="observer")
    assert (row["network"], row["by"]) == (f"{BANNED}/32", "operator@test")
    assert row["refused"] >= 7 and 3500 < row["left"] <= 3600
    with house(apihour_daemon, tmp_path_factory.mktemp("other")) as other:
        assert other.rows("bans") == [] and served(other.daemon, BANNED, 2) == 2
    # Workers that come later have it: after a reload, and in the place of one that died.
    shell.rows("reload")
    assert served(daemon, BANNED) == 0 and served(daemon, OTHER) == 6
    pids = {one.pid for one in daemon.workers("serving")}
    os.kill(min(pids), signal.SIGKILL)
    daemon.wait(lambda: len(daemon.workers("serving")) == 2
                and {one.pid for one in daemon.workers("serving")} != pids, "a new worker")
    assert served(daemon, BANNED) == 0
    assert shell.rows("bans")[0]["network"] == f"{BANNED}/32"
    done = shell.ssh("unban", OTHER, role="operator")
    assert done.returncode == 1 and "it is not banned" in done.stderr
    [row] = shell.rows("unban", BANNED, role="operator")
    assert row["network"] == f"{BANNED}/32" and shell.rows("bans") == []
    assert served(daemon, BANNED) == 6
    lines = [row["command"] for row in shell.audit() if row.get("status") == 0]
    assert f"ban {BANNED}:4711 --for 1h --json" in lines and f"unban {BANNED} --json" in lines


def test_it_ends_by_itself_and_networks_hold_for_all_in_them(shell):
    shell.rows("ban", "127.0.0.76/31", "--for", "2s")
    assert served(shell.daemon, BANNED, 2) == 0 and served(shell.daemon, OTHER, 2) == 2
    shell.daemon.wait(lambda: is_served(shell.daemon, BANNED), "its end", timeout=30)
    assert shell.rows("bans") == []


def test_the_shell_refuses_the_banned_and_keeps_who_is_in(shell):
    shell.rows("workers", role="operator")  # logged in, from 127.0.0.1
    for words in (["127.0.0.1"], ["127.0.0.0/8"], ["0.0.0.0/0"], ["::1"], ["126.0.0.0/7"]):
        done = shell.ssh("ban", *words)
        assert done.returncode == 1 and "expected --yes" in done.stderr, done
        assert len(done.stderr.splitlines()) == 1
    assert shell.rows("bans") == []
    process = shell.start("logs", "-f", role="operator")
    try:
        shell.daemon.wait(lambda: "logs -f" in shell.ctl("sessions").stdout, "the other's session")
        done = shell.ctl("ban", "127.0.0.1/32")  # who is local is told of those that are not
        assert done.returncode == 1
        assert "that is where operator@test is logged in from (127.0.0.1)" in done.stderr
    finally:
        process.kill()
        process.communicate()
    for words in (["nonsense"], ["10.0.0.0/99"], [BANNED, "--for", "0"], [BANNED, "--for", "never"],
                  []):
        done = shell.ssh("ban", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    shell.rows("ban", "127.0.0.1", "--yes", "--for", "10m")
    assert shell.ssh("workers", shared=False).returncode == 255
    shell.forget("observer")
    assert shell.rows("bans")[0]["refused"] >= 1  # the session that was open goes on
    done = shell.ctl("unban", "all")
    assert done.returncode == 0 and "127.0.0.1/32" in done.stdout
    assert shell.ssh("workers", shared=False).returncode == 0


def test_ipv6(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    with house(apihour_daemon, tmp_path, "-b", "echo=[::1]:0", keys=keys) as shell:
        assert served(shell.daemon, "::1", 4) == 4
        [row] = shell.rows("ban", "[::1]:80", "--yes", "--for", "1m")
        assert row["network"] == "::1/128"
        assert served(shell.daemon, "::1", 4) == 0
        shell.rows("unban", "::1")
        assert served(shell.daemon, "::1", 4) == 4


def test_a_ban_outlives_an_upgrade_and_a_worker_that_is_stuck(shell):
    daemon = shell.daemon
    victim = daemon.workers("serving")[0].pid
    os.kill(victim, signal.SIGSTOP)
    try:
        done = shell.ssh("ban", BANNED, "--json")
        assert done.returncode == 75 and "stopped by a signal" in done.stderr
    finally:
        os.kill(victim, signal.SIGCONT)
    # It takes it with its next heartbeat.
    daemon.wait(lambda: served(daemon, BANNED, 4) == 0, "both workers", timeout=30)
    shell.rows("upgrade", timeout=60)
    assert served(daemon, BANNED) == 0 and served(daemon, OTHER) == 6
