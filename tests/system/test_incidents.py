"""Every incident of docs/incidents.rst happens, is shown and is mended by the commands there.

The commands are read from the page. A command in it without an incident here, or the other way
round, fails.
"""

import contextlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from apihour.testing import Load
from tests.system.shell_support import Keys, Shell, ctl, needs_ssh
from tests.system.support import deploy, echo, get

PAGE = Path(__file__).parents[2] / "docs" / "incidents.rst"
GOOD = "VERSION = {0!r}\n\n\ndef answer():\n    return 1\n"
BAD = "VERSION = {0!r}\n\n\ndef answer():\n    raise LookupError('price')\n"
ABUSER = "127.0.0.77"


def commands():
    """The command lines of every section by its title: preparations, what shows, what mends."""
    parts = re.split(r"^(\S.*)\n-+\n", PAGE.read_text(), flags=re.MULTILINE)
    return {title: re.findall(r"^   \$ (.+)$", text, re.MULTILINE)
            for title, text in zip(parts[1::2], parts[2::2], strict=True)}


class Night:
    """A daemon whose releases stand behind a link, and what an operator types."""

    def __init__(self, start, apps, directory, *options, **more):
        self.apps, self.directory = apps, directory
        self.link = directory / "current"
        self.deploy("1")
        self.daemon = start(
            "incidents:Container", *options, cwd=self.link, console=True,
            env={"PWD": str(self.link)}, **more)
        self.daemon.wait(lambda: ctl(self.daemon, "version").returncode == 0, "the console")

    def deploy(self, version, text=GOOD):
        release = self.directory / "releases" / version
        release.mkdir(parents=True)
        shutil.copy(self.apps / "incidents.py", release)
        deploy(release, version, text=text.format(version))
        (self.directory / "new").symlink_to(release)
        (self.directory / "new").rename(self.link)

    def run(self, line):
        """Run a command line of the page."""
        program, *words = shlex.split(line)
        if program == "apihour" and words[0] == "ctl":
            return ctl(self.daemon, *words[1:], timeout=60)
        command = [sys.executable, "-m", "apihour"] if program == "apihour" else [program]
        return subprocess.run([*command, *words], cwd=self.directory, text=True,
                              capture_output=True, timeout=60)

    def ask(self, stack, path, count=1):
        """Requests on connections of their own, whose answers nobody has read yet."""
        socks = [stack.enter_context(self.daemon.connect("http", 30)) for _ in range(count)]
        for sock in socks:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return socks

    def pids(self):
        return {one.pid for one in self.daemon.workers("serving")}

    def others(self, before, gone=2):
        """Whether both workers serve, `gone` of them new."""
        return len(self.pids()) == 2 and len(before - self.pids()) == gone


# Each incident happens, and returns what the output must say and when it is over. The groups
# of the pattern are the words in capitals of the page.


def stuck_loop(night, stack):
    before = night.pids()
    night.ask(stack, "/invoices")
    return (r"(?m)^(?P<WORKER>\d\.\d+) .*stuck .*incidents\.py:\d+ settle_invoices",
            lambda: night.others(before, 1))


def interpreter_held(night, stack):
    before = night.pids()
    night.ask(stack, "/search")
    night.daemon.wait(lambda: any(one.silent > 1 for one in night.daemon.workers()), "its silence")
    return (r"(?m)^worker (?P<WORKER>\d\.\d+), loop: blocked, Python cannot run.*\n(?:  .*\n)*?"
            r"  \S+/incidents\.py:\d+  match_name$",
            lambda: night.others(before, 1))


def leak(night, stack):
    before = night.pids()
    for _ in range(20):
        get(night.daemon, "/upload")
    line = (night.apps / "incidents.py").read_text().splitlines().index(
        "    kept.append(bytearray(1_000_000))") + 1
    return rf"\d\.\d+ +\S+/incidents\.py:{line} ", lambda: night.others(before)


def hot_endpoint(night, stack):
    load = stack.enter_context(
        Load("keep-alive", night.daemon.address("http"), path="/report", connections=4))
    load.wait_answers(10)
    night.deploy("without reports")

    def is_cheap():
        rows = json.loads(night.run("apihour ctl routes --json -s 1").stdout)
        return any("/report" in row["route"] and (row["p50"] or 1) < 0.02 for row in rows)

    return r"\A.*\n(?:[- ]*\n)?http .*/report", is_cheap


def slow_clients(night, stack):
    socks = [stack.enter_context(night.daemon.connect("http", 30)) for _ in range(6)]
    for sock in socks:
        sock.sendall(b"GET / HTTP/1.1\r\nHo")
    return r"(?m)^127\.0\.0\.1 +6 ", lambda: [one.recv(1) for one in socks] == [b""] * 6


def upstream_hangs(night, stack):
    socks = night.ask(stack, "/quote", 5)

    return (r"(?m)^(?P<WHERE>incidents\.py:\d+ ask_upstream) +5 ",
            lambda: [one.recv(1) for one in socks] == [b""] * 5)


def bad_deploy(night, stack):
    before = get(night.daemon)["version"]
    night.deploy("worse", BAD)
    assert night.daemon.reload().ok
    for _ in range(60):
        with contextlib.suppress(urllib.error.HTTPError):
            get(night.daemon)

    def is_well():
        with contextlib.suppress(urllib.error.HTTPError):
            return get(night.daemon)["version"] == before

    return r"(?m)^answers +not ok +\d+ of \d+ requests", is_well


def key_to_revoke(night, stack):
    shell = Shell(night.daemon, night.keys)
    stack.callback(shell.close)
    session = shell.start("logs", "-f", role="operator", shared=False)
    stack.callback(session.kill)
    night.daemon.wait(lambda: "operator" in night.run("apihour ctl sessions").stdout, "a login")

    def is_out():
        return session.poll() is not None and shell.ssh(
            "version", role="operator", shared=False).returncode == 255

    return r"(?m) operator +.* (?P<FINGERPRINT>SHA256:\S+)", is_out


def abusive_address(night, stack):
    port = night.daemon.port("echo")

    def connect():
        return socket.create_connection(("127.0.0.1", port), 30, source_address=(ABUSER, 0))

    socks = [stack.enter_context(connect()) for _ in range(12)]
    for one in socks:
        echo(one)

    def is_banned():
        with contextlib.suppress(ConnectionError), connect() as late:
            assert late.recv(1) == b""
        return [one.recv(1) for one in socks] == [b""] * 12

    return rf"(?m)^(?P<ADDRESS>{re.escape(ABUSER)}) +12 ", is_banned


INCIDENTS = {
    "A stuck loop": stuck_loop,
    "C code that holds the interpreter": interpreter_held,
    "A leak": leak,
    "Slow clients": slow_clients,
    "An upstream that hangs": upstream_hangs,
    "A bad deploy": bad_deploy,
    "A key to revoke": key_to_revoke,
    "An abusive address": abusive_address,
    "A hot endpoint": hot_endpoint,  # the last: its load makes few of what fails in the minute
}
FULL_DISK = "A full disk"


def happen(night, title, incident):
    """Let it happen, and type what the page says."""
    *prepare, show, mend = commands()[title]
    with contextlib.ExitStack() as stack:
        for line in prepare:
            assert night.run(line).returncode == 0
        pattern, is_over = incident(night, stack)
        began = time.monotonic()
        found = night.daemon.wait(
            lambda: re.search(pattern, night.run(show).stdout), f"{pattern!r} of {show!r}")
        seen = time.monotonic()
        for word, value in found.groupdict().items():
            assert word in mend, f"{title}: the page does not use {word}"
            mend = mend.replace(word, value)
        done = night.run(mend)
        assert done.returncode == 0, (mend, done.stdout, done.stderr)
        night.daemon.wait(is_over, f"the end of: {title}")
        print(f"{title}: seen in {seen - began:.1f} s, mended in {time.monotonic() - seen:.1f} s")


@pytest.fixture(scope="module")
def night(apihour_module_daemon, system_apps, tmp_path_factory):
    directory = tmp_path_factory.mktemp("night")
    keys = Keys(directory)
    found = Night(apihour_module_daemon, system_apps, directory, "--console", "127.0.0.1:0",
                  "--keys", str(keys.path))
    found.keys = keys
    return found


def test_the_page_and_the_incidents_are_the_same():
    assert set(commands()) == {*INCIDENTS, FULL_DISK}
    assert all(len(lines) >= 2 for lines in commands().values())


@pytest.mark.parametrize("title", [
    pytest.param(title, marks=[needs_ssh] if title == "A key to revoke" else [])
    for title in INCIDENTS])
def test_it_is_shown_and_mended(night, title):
    happen(night, title, INCIDENTS[title])
    night.daemon.wait_ready()


def test_a_full_disk_is_shown_and_mended(apihour_daemon, system_apps, tmp_path, small_disk):
    log = small_disk / "access.log"
    night = Night(apihour_daemon, system_apps, tmp_path, "--access-logfile", str(log))

    def fill(night, stack):
        with pytest.raises(OSError), open(log, "ab", buffering=0) as file:
            while True:
                file.write(b"x" * 512)

        def is_written():
            get(night.daemon)
            return log.stat().st_size and "disk of the access log  not" not in re.sub(
                " +", "  ", night.run("apihour ctl health").stdout)

        return r"(?m)^disk of the access log +not ok +(?P<FILE>\S+): \S+ free of 64.0K", is_written

    happen(night, FULL_DISK, fill)
