"""Who gets in: first start, roles, certificates, removed keys, hostile clients."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.shell_support import Keys, Shell, Terminal, ctl, house, needs_ssh, port_of
from tests.system.support import refused

pytestmark = needs_ssh

APPS = Path(__file__).parent / "apps"
# What makes root heed the permissions of files.
HUMBLE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
humbled = pytest.mark.skipif(
    bool(HUMBLE) and shutil.which("setpriv") is None, reason="root, and no setpriv")


@pytest.fixture(scope="module")
def shell(apihour_module_daemon, tmp_path_factory):
    with house(apihour_module_daemon, tmp_path_factory.mktemp("keys")) as found:
        found.master("admin")
        yield found


def apihour_keys(shell, *words, status=0, stdin=None):
    done = subprocess.run(
        [sys.executable, "-m", "apihour", "keys", words[0], "--keys", str(shell.keys.path),
         *words[1:]], capture_output=True, text=True, input=stdin, timeout=20)
    assert done.returncode == status, done
    return done.stderr if status else done.stdout


def can_log_in(shell, role, **more):
    done = shell.ssh("version", role=role, shared=False, **more)
    assert done.returncode in (0, 255), done
    assert done.returncode == 0 or "Permission denied" in done.stderr, done
    return done.returncode == 0


# First start.


def test_first_start_without_a_terminal_invents_nothing(apihour_daemon, tmp_path):
    keys = Keys(tmp_path, roles=())
    daemon = apihour_daemon("echo:Container", "--console", "127.0.0.1:0", "--keys",
                            str(keys.path), cwd=APPS, console=True, workers=1)
    line = daemon.wait_log("network shell off")
    assert f"no {keys.authorized}" in line and "apihour keys add" in line
    assert list(keys.path.iterdir()) == []
    daemon.wait(lambda: ctl(daemon, "version").returncode == 0, "the local socket")
    # Turning it on is what the line says, and needs no restart.
    keys.make("me")
    shell = Shell(daemon, keys, int(daemon.wait_log("@console=").rpartition(":")[2]))
    assert "added SHA256:" in apihour_keys(shell, "add", str(keys["me"]) + ".pub", "--role",
                                           "admin")
    daemon.wait_log("keys read again, 1 authorised")
    assert can_log_in(shell, "me")


def test_first_start_from_a_terminal_makes_keys_and_prints_the_line(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("as somebody else it takes that user's own keys")
    environment = {"APIHOUR_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "apihour", "echo:Container", "--workers", "1", "--console",
               "127.0.0.1:0", "--keys", str(tmp_path / "keys"), "--graceful-timeout", "2"]
    with Terminal(command, env=environment, cwd=APPS) as terminal:
        line = terminal.expect(r"ssh -i (\S+) admin@127\.0\.0\.1 -p (\d+)")
        key, port = line.groups()
        assert Path(key) == tmp_path / "keys" / "admin_ed25519"
        assert {path.name: oct(path.stat().st_mode & 0o777)
                for path in (tmp_path / "keys").iterdir() if path.suffix != ".jsonl"} == {
            "admin_ed25519": "0o600", "admin_ed25519.pub": "0o644", "authorized_keys": "0o600",
            "ssh_host_ed25519_key": "0o600", "ssh_host_ed25519_key.pub": "0o644"}
        done = subprocess.run(
            ["ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o",
             "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-i", key,
             "admin@127.0.0.1", "-p", port, "workers", "--json"],
            capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and json.loads(done.stdout)[0]["state"] == "serving"
        terminal.type("\x03")
        assert terminal.ended() == 0


def test_default_port_taken_is_a_warning_and_ctl_works(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 8022))
            taken.listen()
        except OSError:
            pass  # somebody has it already: as good
        daemon = apihour_daemon("echo:Container", "--keys", str(keys.path), cwd=APPS,
                                console=True, workers=1)
        daemon.wait_log(r"WARNING.*127\.0\.0\.1:8022.*in use.*apihour ctl")
        daemon.wait(lambda: ctl(daemon, "version").returncode == 0, "the local socket")


def test_explicit_port_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused("echo:Container", "--workers", "1", "--console", address, cwd=APPS)
        assert address in line and "in use" in line


# Files that are not as they should be.


@humbled
def test_read_only_keys_directory(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                    str(keys.path / "ssh_host_ed25519_key")], check=True)
    keys.path.chmod(0o500)
    before = sorted(keys.path.iterdir())
    with house(apihour_daemon, tmp_path, keys=keys, workers=1, command=(
            *HUMBLE, sys.executable, "-m", "apihour")) as shell:
        assert can_log_in(shell, "observer")
        with shell.terminal() as terminal:
            terminal.expect("shell_house>")
            terminal.run("version", "gunicorn")
        assert [row["command"] for row in shell.rows("audit") if row["event"] == "command"][:2] == [
            "version", "version"]  # kept in memory
        assert len([line for line in shell.daemon.lines if "audit log" in line]) == 1
    assert sorted(keys.path.iterdir()) == before
    keys.path.chmod(0o700)


@humbled
@pytest.mark.parametrize("name", ["authorized_keys", "ssh_host_ed25519_key"])
def test_unreadable_key_is_one_line(apihour_daemon, tmp_path, name):
    keys = Keys(tmp_path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                    str(keys.path / "ssh_host_ed25519_key")], check=True)
    (keys.path / name).chmod(0)
    daemon = apihour_daemon(
        "echo:Container", "--console", "127.0.0.1:0", "--keys", str(keys.path), cwd=APPS,
        console=True, workers=1, wait=False,
        command=(*HUMBLE, sys.executable, "-m", "apihour"))
    assert daemon.wait_exit() == 1
    line = daemon.wait_log("apihour: error")
    assert f"{keys.path / name}: Permission denied; expected a file that can be read" in line
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(("name", "mode", "owner", "mend"), [
    ("", 0o777, 0, "mode 0777 lets others write to it; expected 0755: chmod go-w {}"),
    ("authorized_keys", 0o664, 0, "mode 0664 lets others write to it; "
     "expected 0644: chmod go-w {}"),
    ("authorized_keys", 0o600, 54321, "is owned by uid 54321; expected 0 or root: chown 0 {}"),
])
def test_keys_that_others_may_have_written_refuse_the_start(tmp_path, name, mode, owner, mend):
    if owner and os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    keys = Keys(tmp_path, ("admin",))
    path = keys.path / name
    path.chmod(mode)
    if owner:
        os.chown(path, owner, -1)
    words = ["echo:Container", "--console", "127.0.0.1:0", "--keys", str(keys.path)]
    for command in (words, ["check", *words]):
        assert refused(*command, cwd=APPS) == (
            f"--keys {str(keys.path)!r}: {path}: {mend.format(path)}")


def test_keys_that_others_may_write_from_now_on_let_nobody_in(apihour_daemon, tmp_path):
    with house(apihour_daemon, tmp_path, workers=1) as shell:
        assert can_log_in(shell, "admin") and can_log_in(shell, "observer")
        shell.keys.path.chmod(0o777)
        assert not can_log_in(shell, "admin")
        line = shell.daemon.wait_log("nobody may log in")
        assert f"{shell.keys.path}: mode 0777 lets others write to it; expected 0755" in line
        shell.keys.path.chmod(0o700)
        assert can_log_in(shell, "admin") and can_log_in(shell, "observer")


def test_two_daemons_write_one_audit_log_without_secrets(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    with house(apihour_daemon, tmp_path, keys=keys, workers=1) as first, \
            house(apihour_daemon, tmp_path, keys=keys, workers=1) as second:
        for shell, role in ((first, "admin"), (second, "operator"), (first, "operator")):
            shell.ssh("version", "--token", "s3cr3t", role=role, shared=False)
        entries = first.audit()
    assert "s3cr3t" not in (keys.path / "audit.jsonl").read_text()
    assert [(one["user"], one["command"]) for one in entries if one["event"] == "command"] == [
        (f"{role}@test", "version --token '********'")
        for role in ("admin", "operator", "operator")]


def test_bad_lines_spoil_no_others(shell):
    with open(shell.keys.authorized, "a") as file:
        file.write('role="king" ssh-ed25519 AAAA nobody\nrubbish\n')
    shell.daemon.wait_log(r"authorized_keys, line \d+: ")
    assert can_log_in(shell, "operator")
    text = shell.keys.authorized.read_text().splitlines()[:-2]
    shell.keys.authorized.write_text("\n".join(text) + "\n")


# Keys and what they may do.


def test_role_is_the_keys_and_the_login_name_grants_nothing(shell):
    for user in ("admin", "root"):
        done = shell.ssh("reload", role="observer", shared=False, user=user)
        assert done.returncode == 126 and "observer@test has role observer" in done.stderr
    shell.keys.make("stranger")
    assert not can_log_in(shell, "stranger")
    shell.daemon.wait(lambda: any(one["event"] == "refused" for one in shell.audit()),
                      "its entry in the audit log", timeout=5)


def test_from_is_honoured(shell):
    shell.keys.add("far", "admin", ',from="192.0.2.0/24"')
    shell.keys.add("near", "admin", ',from="127.0.0.1"')
    shell.daemon.wait(lambda: can_log_in(shell, "near"), "the new key")
    assert not can_log_in(shell, "far")


def test_removed_key_ends_its_sessions(shell):
    shell.keys.add("short", "operator")
    shell.daemon.wait(lambda: can_log_in(shell, "short"), "the new key")
    with shell.terminal(role="short") as terminal:
        terminal.expect("shell_house>")
        stream = shell.start("logs", "-f", role="short", shared=False)
        shell.daemon.wait(lambda: "logs -f" in [
            row["command"] for row in shell.rows("sessions")], "the stream")
        began = time.monotonic()
        assert "removed SHA256:" in apihour_keys(shell, "remove", "short@test")
        terminal.expect("your key was removed")
        assert terminal.ended() != 0
        _, errors = stream.communicate(timeout=10)
        assert time.monotonic() - began < 5
        assert stream.returncode != 0 and b"your key was removed" in errors
    assert not can_log_in(shell, "short")
    assert "your key was removed" in [
        one["outcome"].partition(":")[0] for one in shell.audit() if one["event"] == "kicked"]


def test_keys_list_add_remove(shell):
    rows = json.loads(apihour_keys(shell, "list", "--json"))
    assert {row["comment"]: row["role"] for row in rows}.items() >= {
        "observer@test": "observer", "admin@test": "admin"}.items()
    public = shell.keys.make("added")
    apihour_keys(shell, "add", "-", "--role", "observer", "--from", "127.0.0.1", stdin=public)
    assert 'from="127.0.0.1"' in apihour_keys(shell, "list")
    error = apihour_keys(shell, "add", public, status=1)
    assert "is there already as observer" in error and len(error.splitlines()) == 1
    error = apihour_keys(shell, "add", str(shell.keys["added"]), status=1)
    assert "expected one line with a public key" in error
    apihour_keys(shell, "remove", "added@test")
    error = apihour_keys(shell, "remove", "added@test", status=1)
    assert "names no key; expected" in error


def test_user_certificates_by_an_authority(shell, tmp_path):
    shell.keys.make("ca")
    shell.keys.make("guest")
    apihour_keys(shell, "add", str(shell.keys["ca"]) + ".pub", "--role", "operator", "--ca",
                 "--principals", "ops")
    shell.daemon.wait_log(r"keys read again", since=len(shell.daemon.lines) - 1)

    def certified(principal, lifetime="+1h"):
        subprocess.run(["ssh-keygen", "-q", "-s", shell.keys["ca"], "-I", "guest", "-n",
                        principal, "-V", lifetime, f"{shell.keys['guest']}.pub"], check=True)
        return can_log_in(shell, "guest")

    shell.daemon.wait(lambda: certified("ops"), "the authority")
    done = shell.ssh("sessions", "--json", role="guest", shared=False)
    assert [row["role"] for row in json.loads(done.stdout)
            if row["command"].startswith("sessions")] == ["operator"]
    assert not certified("others")
    assert not certified("ops", "20200101:20200102")
    (shell.keys.private / "id_guest-cert.pub").unlink()
    assert not can_log_in(shell, "guest")


def test_rotated_host_key_is_served_at_once(shell):
    def served():
        done = subprocess.run(["ssh-keyscan", "-p", str(shell.port), "-t", "ed25519",
                               "127.0.0.1"], capture_output=True, text=True)
        return done.stdout.split()[-1:]

    before = served()
    assert "clients must accept it anew" in apihour_keys(shell, "rotate-host")
    shell.daemon.wait(lambda: served() not in (before, []), "the new host key", timeout=5)
    assert shell.ssh("version").returncode == 0  # who is in stays in


# Hostile clients.


def test_too_many_keys_end_the_connection(shell):
    bad = []
    for number in range(6):
        shell.keys.make(f"bad{number}")
        bad += ["-i", str(shell.keys[f"bad{number}"])]

    def log_in(count):
        command = shell.command("version", options=["-o", "IdentityFile=none"])
        good = command.index("-i")
        command[good:good + 2] = [*bad[:2 * count], "-i", str(shell.keys["admin"])]
        return subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert log_in(4).returncode == 0
    done = log_in(6)
    assert done.returncode == 255 and "Too many authentication failures" in done.stderr


def test_flood_of_half_logins_leaves_the_sessions_alone(shell):
    with ExitStack() as stack:
        for _ in range(80):  # from the operators' own address
            stack.enter_context(socket.create_connection(("127.0.0.1", shell.port), 5))
        began = time.monotonic()
        assert shell.ssh("version").returncode == 0
        assert time.monotonic() - began < 5
        assert shell.ssh("version", role="observer", shared=False, timeout=60).returncode == 0


def is_closed(sock):
    """Whether the other end has closed, or closes, before it has sent much."""
    try:
        while sock.recv(65536):
            continue
    except ConnectionError:
        pass
    return True


def test_garbage_costs_its_own_connection_only(shell):
    shell.daemon.wait(lambda: can_log_in(shell, "observer"), "room")
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 50_000, b"SSH-2.0-x\r\n" + b"\xff" * 1000):
        with socket.create_connection(("127.0.0.1", shell.port), 5) as sock:
            sock.sendall(data)
            while True:
                try:
                    if not sock.recv(65536):
                        break
                except ConnectionError:
                    break
    assert shell.ssh("version").returncode == 0
    assert "Traceback" not in shell.daemon.log


def test_strict_has_no_complaint_at_all(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    daemon = apihour_daemon("echo:Container", "--console", "127.0.0.1:0", "--ssh-strict",
                            "--keys", str(keys.path), cwd=APPS, console=True, workers=1)
    done = subprocess.run(
        [sys.executable, "-m", "ssh_audit", "--json", "-n", "--skip-rate-test",
         f"127.0.0.1:{port_of(daemon)}"], capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert report["kex"][0]["algorithm"] == "mlkem768x25519-sha256"
    for kind in ("kex", "key", "enc", "mac"):
        for one in report[kind]:
            assert not {"warn", "fail"} & one.get("notes", {}).keys(), one


# The shell as a server among others.


def test_declared_shell_with_its_own_limits(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    daemon = apihour_daemon("shell_declared:Container", "--keys", str(keys.path), cwd=APPS,
                            console=True, workers=2)
    port = daemon.port("ssh")
    assert port_of(daemon) == port
    shell = Shell(daemon, keys, port)
    try:
        assert {row["name"] for row in shell.rows("servers")} >= {"echo"}
        with ExitStack() as stack:
            socks = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                     for _ in range(8)]
            # The master's connection is one of the six; three have made room for the last.
            for sock in socks[3:]:
                assert sock.recv(100).startswith(b"SSH-")
            for sock in socks[:3]:
                assert is_closed(sock)
            began = time.monotonic()
            socks[-1].settimeout(10)
            while socks[-1].recv(65536):  # the login timeout ends it
                continue
            assert 0.3 < time.monotonic() - began < 3
        with shell.terminal() as terminal:
            terminal.expect("shell_declared>")
            terminal.expect(r"idle for 2 s", timeout=8)
            terminal.ended()
        # A reload hands the new workers no shell, and keeps the socket.
        assert shell.rows("reload")[0]["outcome"] == "done"
        assert re.match(r"2\.2", shell.rows("workers")[-1]["worker"])
        assert daemon.port("ssh") == port
    finally:
        shell.close()


def test_wrong_option_of_a_declared_shell_is_one_line(tmp_path):
    line = refused("shell_declared:Wrong", "--workers", "1", "--keys", str(tmp_path), cwd=APPS)
    assert "Shell: option 'idle_time'; expected one of" in line and "shell_declared.py" in line


def test_the_log_has_no_line_of_the_librarys_for_each_connection_and_command(
    apihour_daemon, tmp_path
):
    keys = Keys(tmp_path)
    daemon = apihour_daemon("shell_declared:InWorker", "--keys", str(keys.path), cwd=APPS,
                            console=True, workers=1)
    shell = Shell(daemon, keys, daemon.port("ssh"))
    assert shell.ssh("version", "--token", "s3cr3t", shared=False).returncode == 2
    assert "asyncssh" not in daemon.log and "s3cr3t" not in daemon.log


def test_shell_in_the_workers_sees_all_of_them(apihour_daemon, tmp_path):
    keys = Keys(tmp_path)
    daemon = apihour_daemon("shell_declared:InWorker", "--keys", str(keys.path), cwd=APPS,
                            console=True, workers=2)
    shell = Shell(daemon, keys, daemon.port("ssh"))
    try:
        daemon.wait(lambda: shell.ssh("version", shared=False).returncode == 0, "the shell")
        assert {row["worker"] for row in shell.rows("workers")} == {"1.1", "2.1"}
        assert {row["worker"] for row in shell.rows("tasks", "--all")} == {"1.1", "2.1"}
        assert shell.ssh("reload", role="observer").returncode == 126
        [conn] = [row for row in shell.rows("conns") if row["server"] == "ssh"
                  and row["state"] == "shell"][:1]
        assert conn["protocol"] == "ssh"
        with shell.terminal() as terminal:
            terminal.expect("(is admin; help lists)")
            terminal.run("stack", "worker 1.1.*worker 2.1")
            terminal.type("reload\r")
            terminal.expect("this worker is going")
    finally:
        shell.close()
