"""The real clients (ssh, scp, sftp, rsync, paramiko) against an application's SSH."""

import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.shell_support import Keys, needs_ssh

paramiko = pytest.importorskip("paramiko")
pytestmark = needs_ssh

APPS = Path(__file__).parent / "apps"
MUCH = random.Random(1).randbytes(5_000_000)
FIXED = ["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o",
         "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
         "-o", "LogLevel=ERROR"]


class Client:
    """One daemon, and the command lines of clients that log in to it."""

    def __init__(self, daemon, keys):
        self.port = daemon.port("ssh")
        self.key = str(keys["admin"])
        self.fixed = [*FIXED, "-i", self.key]

    def ssh(self, *words, options=(), stdin=b"", timeout=60):
        return subprocess.run(
            ["ssh", *self.fixed, "-p", str(self.port), *options, "x@127.0.0.1", *words],
            input=stdin, capture_output=True, timeout=timeout)

    def copy(self, *words):
        done = subprocess.run(words, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (words, done.returncode, done.stderr)

    def paramiko(self):
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", self.port, "x", key_filename=self.key, timeout=30,
                       look_for_keys=False, allow_agent=False)
        return client


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def client(request, apihour_module_daemon, tmp_path_factory):
    directory = tmp_path_factory.mktemp("ssh")
    keys = Keys(directory, ("admin",))
    daemon = apihour_module_daemon(
        "commands:Container", "--keys", str(keys.path), cwd=APPS, workers=1,
        env={"COMMANDS_LOOP": request.param})
    return Client(daemon, keys)


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_status(client, status):
    assert client.ssh(f"exit {status}").returncode == status


def test_exit_status_is_never_lost(client):
    assert [client.ssh(f"exit {n}").returncode for n in range(1, 11)] == list(range(1, 11))


def test_death_by_a_signal(client):
    assert client.ssh("kill -9 $$").returncode == 255


def test_streams_are_apart(client):
    done = client.ssh("echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_much_output(client):
    done = client.ssh("head -c 5000000 /dev/zero; echo end")
    assert done.returncode == 0 and len(done.stdout) == 5_000_004
    assert done.stdout.endswith(b"\0end\n")


def test_much_both_ways(client):
    done = client.ssh("cat", stdin=MUCH)
    assert done.returncode == 0 and done.stdout == MUCH


def test_input_that_nobody_reads(client):
    done = client.ssh("exit 5", stdin=MUCH)
    assert done.returncode == 5, done.stderr


def test_input_that_ends_after_the_command(client):
    process = subprocess.Popen(
        ["ssh", *client.fixed, "-p", str(client.port), "x@127.0.0.1", "echo ready; exit 4"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert process.wait(30) == 4
    process.stdin.close()
    process.stdout.close()


def test_a_reader_that_leaves(client):
    began = time.monotonic()
    words = ["ssh", *client.fixed, "-p", str(client.port), "x@127.0.0.1", "yes"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    process.wait(30)
    assert time.monotonic() - began < 30


def test_a_shell_that_reads_its_commands(client):
    done = client.ssh(stdin=b"echo one\nexit 6\n")
    assert (done.returncode, done.stdout) == (6, b"one\n")


def test_a_terminal(client):
    done = client.ssh("echo there; exit 2", options=["-tt"])
    assert done.returncode == 2 and b"there" in done.stdout


def test_many_sessions_on_one_connection(client, tmp_path):
    path = tmp_path / "master"
    with subprocess.Popen(["ssh", *client.fixed, "-p", str(client.port), "-M", "-N", "-S",
                           str(path), "x@127.0.0.1"], stdin=subprocess.DEVNULL) as master:
        until = time.monotonic() + 30
        while not path.exists():
            assert master.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        try:
            for number in range(10):
                done = client.ssh(f"exit {number}", options=["-S", str(path)])
                assert done.returncode == number
        finally:
            master.terminate()


@pytest.mark.parametrize("mode", [[], ["-O"]], ids=["sftp", "rcp"])
def test_scp_there_and_back(client, tmp_path, mode):
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    here.write_bytes(MUCH)
    words = ["scp", *mode, "-q", *client.fixed, "-P", str(client.port)]
    client.copy(*words, str(here), f"x@127.0.0.1:{there}")
    client.copy(*words, f"x@127.0.0.1:{there}", str(back))
    assert there.read_bytes() == back.read_bytes() == MUCH


def test_scp_of_a_directory_and_of_what_is_not_there(client, tmp_path):
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "deep" / "file").write_bytes(b"x")
    words = ["scp", "-q", "-r", *client.fixed, "-P", str(client.port)]
    client.copy(*words, str(tmp_path / "here"), f"x@127.0.0.1:{tmp_path}/there")
    assert (tmp_path / "there" / "deep" / "file").read_bytes() == b"x"
    done = subprocess.run([*words, f"x@127.0.0.1:{tmp_path}/absent", str(tmp_path / "z")],
                          capture_output=True, timeout=60)
    assert done.returncode == 1 and b"No such file" in done.stderr


def test_sftp_batch(client, tmp_path):
    (tmp_path / "here").write_bytes(MUCH)
    batch = (f"put {tmp_path}/here {tmp_path}/there\nrename {tmp_path}/there {tmp_path}/moved\n"
             f"get {tmp_path}/moved {tmp_path}/back\nls {tmp_path}\n")
    done = subprocess.run(["sftp", "-b", "-", *client.fixed, "-P", str(client.port),
                           "x@127.0.0.1"], input=batch.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == MUCH


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
def test_rsync_there_and_back(client, tmp_path):
    here = tmp_path / "here"
    for number in range(20):
        path = here / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MUCH[number * 1000: number * 60_000])
    words = ["rsync", "-a", "--delete", "-e",
             " ".join(["ssh", *client.fixed, "-p", str(client.port)])]
    client.copy(*words, f"{here}/", f"x@127.0.0.1:{tmp_path}/there/")
    client.copy(*words, f"x@127.0.0.1:{tmp_path}/there/", f"{tmp_path}/back/")
    assert digests(here) == digests(tmp_path / "there") == digests(tmp_path / "back")


def digests(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).digest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def test_paramiko_commands(client):
    with client.paramiko() as connection:
        for number in range(20):
            stdin, out, err = connection.exec_command(f"cat; echo {number} >&2; exit {number}")
            stdin.write(b"x" * 100_000)
            stdin.channel.shutdown_write()
            assert (len(out.read()), err.read()) == (100_000, f"{number}\n".encode())
            assert out.channel.recv_exit_status() == number


def test_paramiko_shell(client):
    with client.paramiko() as connection:
        channel = connection.invoke_shell()
        channel.settimeout(30)
        channel.send(b"echo a$((1+1))b\nexit 7\n")
        seen = b""
        while data := channel.recv(65536):
            seen += data
        assert b"a2b" in seen and channel.recv_exit_status() == 7


def test_paramiko_sftp(client, tmp_path):
    (tmp_path / "here").write_bytes(MUCH)
    with client.paramiko() as connection, connection.open_sftp() as files:
        files.put(str(tmp_path / "here"), str(tmp_path / "there"))
        files.get(str(tmp_path / "there"), str(tmp_path / "back"))
        assert "there" in files.listdir(str(tmp_path))
        files.remove(str(tmp_path / "there"))
    assert (tmp_path / "back").read_bytes() == MUCH and not os.path.exists(tmp_path / "there")


def test_audit_by_ssh_audit(client):
    pytest.importorskip("ssh_audit")
    done = subprocess.run(
        [sys.executable, "-m", "ssh_audit", "-n", "--skip-rate-test", f"127.0.0.1:{client.port}"],
        capture_output=True, text=True, timeout=60)
    assert "curve25519" in done.stdout and "[fail]" not in done.stdout
