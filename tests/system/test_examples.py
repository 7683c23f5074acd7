"""The examples work as they say: typed by SSH, served by HTTP, whichever workers took them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.shell_support import Keys, Shell, Terminal, needs_ssh, port_of
from tests.system.support import echo, get

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def talk(apihour_module_daemon, tmp_path_factory):
    """The example of three protocols and a console, from a copy of its own."""
    directory = tmp_path_factory.mktemp("example")
    keys = Keys(directory)
    daemon = apihour_module_daemon(
        "http_and_ssh:Container", "-ac", "-b", "http=127.0.0.1:0", "-b", "ssh=127.0.0.1:0", "-b",
        "echo=127.0.0.1:0", "--console", "127.0.0.1:0", "--keys", str(keys.path),
        cwd=EXAMPLES / "http_and_ssh", console=True, workers=3)
    shell = Shell(daemon, keys)
    yield shell
    shell.close()


def test_it_declares_the_ports_of_the_readme():
    source = (EXAMPLES / "http_and_ssh" / "http_and_ssh.py").read_text()
    assert '"http": "127.0.0.1:8000", "ssh": "127.0.0.1:8023", "echo": "127.0.0.1:9000"' in source


@needs_ssh
def test_text_typed_by_ssh_is_served_by_http_from_every_worker(talk):
    daemon = talk.daemon
    application = Shell(daemon, talk.keys, daemon.port("ssh"))
    daemon.wait(lambda: (talk.keys.path / "ssh_host_ed25519_key").exists(), "the host key")
    workers = set()
    for number in range(1, 4):
        done = application.ssh(stdin=f"hello {number}\n\n".encode(), shared=False)
        assert done.returncode == 0 and f"kept, line {number}" in done.stdout, done
        answers = [get(daemon) for _ in range(6)]
        assert {(one["text"], one["lines"]) for one in answers} == {(f"hello {number}", number)}
        workers |= {one["worker"] for one in answers}
    assert len(workers) > 1
    with Terminal(application.command(options=["-tt"])) as terminal:
        terminal.expect(r"\n")
        terminal.type("typed by hand\r")
        terminal.expect("kept, line 4")
        assert get(daemon)["text"] == "typed by hand"
        terminal.type("\r")
        assert terminal.ended() == 0
    stranger = talk.keys.make("stranger")
    assert stranger and application.ssh(role="stranger", shared=False).returncode == 255


@needs_ssh
def test_its_console_sees_all_of_it(talk):
    assert {row["name"]: row["protocol"] for row in talk.rows("servers")} == {
        "http": "http", "ssh": "ssh", "echo": "tcp"}
    with talk.daemon.connect("echo") as sock:
        echo(sock)
        assert [row["server"] for row in talk.rows("conns", "--filter", "protocol=tcp")] == ["echo"]
    assert len(talk.rows("workers")) == 3
    assert any(row["section"] == "application" for row in talk.rows("config"))


@needs_ssh
def test_it_prints_what_to_try_and_that_works(talk):
    daemon = talk.daemon
    line = daemon.wait_log(r"^  curl http://")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=20)
    if shutil.which("curl"):
        assert "text" in json.loads(done.stdout)
    daemon.wait_log(rf"^  ssh .*you@127\.0\.0\.1 -p {daemon.port('ssh')} ")
    assert not [line for line in daemon.lines if "-p 0" in line]
    assert port_of(daemon)


def test_all_in_one(apihour_daemon):
    source = (EXAMPLES / "all_in_one.py").read_text()
    assert len(source.splitlines()) < 30
    daemon = apihour_daemon("all_in_one:Container", "-b", "http=127.0.0.1:0", cwd=EXAMPLES)
    assert get(daemon) == {"try": "/hello/you"}
    seen = [get(daemon, "/hello/you") for _ in range(5)]
    assert [one["seen"] for one in seen] == [1, 2, 3, 4, 5]
    assert {one["hello"] for one in seen} == {"you"}


def test_check_says_what_would_be_served_where(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "apihour", "check", "http_and_ssh:Container", "--keys",
         str(tmp_path)], cwd=EXAMPLES / "http_and_ssh", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done
    for text in ("127.0.0.1:8000", "127.0.0.1:8023", "127.0.0.1:9000"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []
