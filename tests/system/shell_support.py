"""What the tests of the shell share: keys, real OpenSSH clients, a terminal to type at."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import asyncssh
import pytest

ROLES = ("observer", "operator", "admin")
PROMPT = r"[\w.]+>"  # what follows it is a movement of the cursor
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[=>78]|\x1b\][^\x07]*\x07")

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")


class Keys:
    """A keys directory with one key for each role; private halves are beside it."""

    def __init__(self, directory, roles=ROLES):
        self.path = Path(directory) / "keys"
        self.path.mkdir(parents=True, mode=0o700)
        self.private = Path(directory)
        self.authorized = self.path / "authorized_keys"
        for role in roles:
            self.add(role)

    def __getitem__(self, name):
        return self.private / f"id_{name}"

    def make(self, name, kind="ssh-ed25519"):
        """A new key that nobody knows; its public half as text."""
        key = asyncssh.generate_private_key(kind, comment=f"{name}@test")
        self[name].write_bytes(key.export_private_key("openssh"))
        self[name].chmod(0o600)
        public = key.export_public_key("openssh").decode().strip()
        self[name].with_suffix(".pub").write_text(public + "\n")
        return public

    def add(self, name, role=None, options=""):
        """Authorise a new key; `options` are further ones, comma first."""
        public = self.make(name)
        with open(self.authorized, "a") as file:
            file.write(f'role="{role or name}"{options} {public}\n')
        return self[name]

    def remove(self, name):
        """Take a key away, as an editor that saves by rename does."""
        lines = self.authorized.read_text().splitlines(keepends=True)
        temporary = self.authorized.with_suffix(".new")
        temporary.write_text("".join(line for line in lines if f" {name}@test" not in line))
        temporary.rename(self.authorized)


class Shell:
    """The shell of a daemon started with ``--console 127.0.0.1:0``, and clients of it."""

    def __init__(self, daemon, keys, port=None):
        self.daemon = daemon
        self.keys = keys
        self.port = port if port is not None else port_of(daemon)
        self._masters = {}
        self._sockets = Path(tempfile.mkdtemp(prefix="ssh-"))

    def command(self, *words, role="admin", options=(), user="anyone"):
        """The command line of an OpenSSH client that trusts and remembers nobody."""
        return [
            "ssh", "-F", "/dev/null", "-i", str(self.keys[role]), "-p", str(self.port),
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", *options, f"{user}@127.0.0.1", *words,
        ]

    def master(self, role):
        """A connection that stays: further commands are sessions of it, without a login."""
        path = self._sockets / role
        if role not in self._masters:
            process = subprocess.Popen(
                self.command("-N", role=role, options=["-M", "-S", str(path)]),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self._masters[role] = process
            self.daemon.wait(lambda: path.exists() or process.poll() is not None, "the master")
            assert process.poll() is None
        return ["-S", str(path), "-o", "ControlMaster=no"]

    def ssh(self, *words, role="admin", options=(), stdin=b"", timeout=20, shared=True, **more):
        """``ssh host WORDS``: its status, stdout and stderr. `shared`: on the role's master."""
        if shared:
            options = [*self.master(role), *options]
        done = subprocess.run(
            self.command(*words, role=role, options=options, **more), input=stdin,
            capture_output=True, timeout=timeout)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    def start(self, *words, role="admin", shared=True, **more):
        """The same, left running."""
        options = self.master(role) if shared else []
        return subprocess.Popen(
            self.command(*words, role=role, options=options), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def rows(self, *words, status=0, **more):
        """The rows of one command by ``--json``."""
        done = self.ssh(*words, "--json", **more)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def ctl(self, *words, stdin=None, timeout=20):
        """``apihour ctl WORDS``."""
        return ctl(self.daemon, *words, stdin=stdin, timeout=timeout)

    def audit(self):
        """The entries of the audit log."""
        text = (self.keys.path / "audit.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def terminal(self, *words, role="admin", term="xterm-256color", options=(), **more):
        """An interactive session on a pseudo-terminal."""
        command = self.command(*words, role=role, options=["-tt", *options])
        return Terminal(command, term=term, **more)

    def forget(self, role):
        """End the connection of a role."""
        process = self._masters.pop(role, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:  # it waits for a session that is still open
                process.kill()
                process.wait()
        (self._sockets / role).unlink(missing_ok=True)

    def close(self):
        for role in list(self._masters):
            self.forget(role)
        shutil.rmtree(self._sockets, ignore_errors=True)


def port_of(daemon):
    """Where the console says it listens."""
    line = daemon.wait_log(r"shell: ssh .*admin@\S+ -p \d+")
    return int(re.search(r"-p (\d+)", line)[1])


def ctl(daemon, *words, stdin=None, timeout=20, binary=False):
    """``apihour ctl WORDS`` against that daemon."""
    return subprocess.run(
        [sys.executable, "-m", "apihour", "ctl", *words], capture_output=True,
        timeout=timeout, text=not binary, input=stdin,
        env={**os.environ, "APIHOUR_RUNTIME_DIR": str(daemon.directory), "NO_COLOR": "1"})


def console_pid(daemon):
    """The console process that serves, or 0 while there is none."""
    found = 0
    for pid in daemon.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"apihour_console" in words:
                found = max(found, pid)
    return found


def table_of(text):
    """CSV text as a list of mappings."""
    return list(csv.DictReader(io.StringIO(text)))


def quoted(command):
    """A command line as text for ``sh -c``."""
    return shlex.join(command)


class Terminal:
    """A process on a pseudo-terminal, typed at and read from."""

    def __init__(self, command, term="xterm-256color", columns=120, rows=40, env=None, cwd=None):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.raw = ""
        self._seen = ""
        self._rest = b""
        environment = {**os.environ, "TERM": term, **(env or {})}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=_own_terminal,
            env={name: value for name, value in environment.items() if value is not None},
            cwd=cwd)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.master)

    def resize(self, columns, rows):
        """What a terminal emulator does when its window is dragged."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        """Type it, reading meanwhile what comes, so that neither side waits for ever."""
        data = text.encode()
        while data:
            readable, writable, _ = select.select([self.master], [self.master], [], 10)
            assert readable or writable, "the terminal takes no more"
            if readable:
                self._read()
            if writable:
                data = data[os.write(self.master, data[:512]):]

    def _read(self):
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the other end is closed
            return False
        data = self._rest + data
        text = data.decode("utf-8", "ignore")
        self._rest = data[len(text.encode()):][-3:] if len(text.encode()) < len(data) else b""
        self.raw += text
        self._seen += text
        return bool(data)

    def wait(self, timeout=15):
        """Wait until something more is there to be seen in `raw`."""
        assert select.select([self.master], [], [], timeout)[0], self.raw[-3000:]
        assert self._read(), f"ended: {self.raw[-3000:]!r}"

    def settle(self, quiet=0.15):
        """Read until nothing has come for that long, as a person's eye does; returns it all."""
        while select.select([self.master], [], [], quiet)[0] and self._read():
            pass
        return self.text

    @property
    def text(self):
        """What came since the last match, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    @property
    def seen_at_all(self):
        """What came since the beginning, without escape sequences."""
        return _ESCAPES.sub("", self._seen).replace("\r", "")

    def expect(self, pattern, timeout=15):
        """Wait until the pattern was printed since the last match; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            text = self.text
            found = re.search(pattern, text, re.DOTALL)
            if found:
                self.raw = text[found.end():]
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} not in {text[-3000:]!r}"
            if select.select([self.master], [], [], left)[0]:
                assert self._read(), f"ended without {pattern!r}: {text[-3000:]!r}"

    def run(self, line, pattern="", timeout=15):
        """Type a line and wait for a pattern in its output, then for the next prompt."""
        self.type(line + "\r")
        found = self.expect(pattern, timeout) if pattern else None
        self.expect(PROMPT, timeout)
        return found

    def run_python(self, line, pattern, timeout=20):
        """The same at the Python prompt."""
        self.type(line + "\r")
        self.expect(f"(?:{pattern}).*>>>", timeout)

    def ended(self, timeout=15):
        """Wait for the end; returns the exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text[-3000:]
            if select.select([self.master], [], [], 0.05)[0]:
                self._read()
        while select.select([self.master], [], [], 0)[0] and self._read():
            pass
        return self.process.returncode


def _own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def house(start, directory, *options, keys=None, target="shell_house:Container", **keywords):
    """The application to look into, started by the fixture `start`, and its shell."""
    keys = keys or Keys(directory)
    keywords.setdefault("cwd", Path(__file__).parent / "apps")
    daemon = start(target, "--console", "127.0.0.1:0", "--keys", str(keys.path), *options,
                   console=True, **keywords)
    shell = Shell(daemon, keys)
    try:
        yield shell
    finally:
        shell.close()
