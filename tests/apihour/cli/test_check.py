"""``apihour check`` and ``apihour protocols``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apihour.cli.check import check, list_protocols
from apihour.errors import ApihourError, ConfigurationError
from tests.apihour.loggers import loggers
from tests.certificates import Authority

__all__ = ["loggers"]

_numbers = itertools.count()
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loggers: None) -> Write:
    """Write an application; returns its module's name."""
    monkeypatch.chdir(tmp_path)
    # The ports in here need not be free, nor this user be allowed to have them.
    monkeypatch.setattr("apihour.cli.check.try_bind", lambda name, address: True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(text: str) -> str:
        name = f"checked_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text("import asyncio\nimport apihour\n" + text)
        return name

    return write


APPLICATION = """
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:9000", "dns": "udp://127.0.0.1:5300"}

    async def make_servers(self):
        return {"dns": asyncio.DatagramProtocol, "echo": asyncio.Protocol}
"""


def test_says_what_would_be_served_where(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(APPLICATION)
    assert check([f"{name}:Container", "-w", "3", "-b", "echo=:9001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name}:Container: 3 workers"
    assert [line.split() for line in lines[1:-1]] == [
        ["dns", "udp", "udp://127.0.0.1:5300"], ["echo", "tcp", "0.0.0.0:9001"]]
    assert lines[-1] == "not run: pre_start(), start() and what the servers do at their start"


@pytest.mark.parametrize(("words", "lines"), [
    ([], []),
    (["--console", ":22", "--health", "unix:h.sock"],
     [["--console", "ssh", "0.0.0.0:22"], ["--health", "http", "unix:h.sock"]]),
    (["--console", ":22", "--no-console"], []),
])
def test_lists_what_the_daemon_opens_for_itself(
    words: list[str], lines: list[list[str]], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(APPLICATION)
    assert check([f"{name}:Container", "-w", "1", *words]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{name}:Container: 1 worker"
    assert [line.split() for line in out[3:-1]] == lines


def test_lists_the_default_shell_where_it_would_be_opened(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "authorized_keys").write_text("")
    name = write(APPLICATION)
    assert check([f"{name}:Container", "-w", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split(maxsplit=2) == [
        "--console", "ssh", "127.0.0.1:8022, where it is free"]
    name = write("""
from apihour_ssh import Shell
class Container(apihour.Container):
    binds = {"shell": ":22"}
    def make_servers(self): return {"shell": Shell()}
""")
    assert check([f"{name}:Container", "-w", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == ["shell"]


@pytest.mark.parametrize(("words", "message"), [
    (["--health", ":1", "--no-console"], "--health ':1': the console process serves it; "
                                         "expected no --no-console with it"),
    (["--health", "127.0.0.1:9000"], "binds 'echo' and '--health' are both 127.0.0.1:9000; "
                                     "expected different addresses"),
    (["--console", ":1", "--keys", "file"], "--keys 'file': expected a directory"),
])
def test_refuses_what_a_start_refuses(
    words: list[str], message: str, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    name = write(APPLICATION)
    with pytest.raises(ConfigurationError) as caught:
        check([f"{name}:Container", *words])
    assert str(caught.value) == message


COMMAND = """
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:9000"}
    def make_servers(self): return {"echo": asyncio.Protocol}
    @apihour.command()
    async def orders(self, *, limit: int = 5) -> str:
        "The orders."
"""
HTTP = """
import apihour_http
class Container(apihour.Container):
    config_of_it = {}
    def __init__(self, config=None, worker=None, loop=None):
        super().__init__({"servers": {"http": self.config_of_it}}, worker, loop)
    def make_servers(self): return {"http": apihour_http.HTTPServer(apihour_http.Routes())}
"""
HOOK = """
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:9000"}
    def make_servers(self): return {"echo": asyncio.Protocol}
    def start(self, engines): pass
"""
LOOP = HOOK.replace("    def start(self, engines)",
                    "    @classmethod\n    def make_event_loop(cls, config)")
LISTENER = """
class Accepts:
    protocol = "own"
    async def start(self, context=None): ...
    async def listener(self, sock): ...
    async def drain(self, deadline): ...
    async def stop(self): ...
    def statistics(self): return {}
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:9000?tls"}
    def make_servers(self): return {"echo": Accepts()}
"""


@pytest.mark.parametrize(("text", "words", "message"), [
    (COMMAND, [], "limit"),
    (HTTP.replace("{}", "{'max_body': 'x'}"), [],
     "server 'http' (http) cannot start: option max_body='x': expected"),
    (HTTP.replace("{}", "{'no_such': 1}"), [],
     "server 'http' (http) cannot start: option 'no_such': expected one of access_log"),
    (HOOK, [], "start() cannot be called: missing a required argument: 'engines'"),
    (LOOP, [], "make_event_loop() returned None"),
    (APPLICATION, ["--pid", "missing/pid"], "--pid 'missing/pid': No such file or directory; "
                                            "expected a file that can be written"),
    (APPLICATION, ["--pid", "/dev"], "--pid '/dev': Is a directory; expected a file"),
])
def test_refuses_what_a_worker_refuses(
    text: str, words: list[str], message: str, write: Write
) -> None:
    with pytest.raises(ApihourError) as caught:
        check([f"{write(text)}:Container", *words])
    assert message in str(caught.value)


def test_a_command_is_no_matter_without_a_shell(write: Write) -> None:
    assert check([f"{write(COMMAND)}:Container", "--no-console"]) == 0


def test_make_servers_may_ask_for_the_options_of_its_worker(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write("""
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:9000"}

    def make_servers(self):
        assert self.worker.name
        return {"echo": asyncio.Protocol} if self.worker.cfg.keys == "elsewhere" else {}
""")
    assert check([f"{name}:Container", "--no-console", "--keys", "elsewhere"]) == 0
    assert "echo" in capsys.readouterr().out


def test_tls_that_would_be_lost(write: Write, tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("server")
    with pytest.raises(ConfigurationError, match=r"accepts by itself \(own\) loses TLS; expected "
                                                 r"its bind echo=127.0.0.1:9000\?tls"):
        check([f"{write(LISTENER)}:Container", "--certfile", str(certificate)])


LIMITED = """
class Patient(asyncio.Protocol):
    bind_options = {"idle": "1m", "rate": 5}
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0?idle=9"}
    def make_servers(self): return {"echo": Patient}
"""


def test_what_is_asked_of_connections_is_said(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check([f"{write(LIMITED)}:Container", "--no-console"]) == 0
    assert ("  echo         tcp      127.0.0.1:0?idle=9  "
            "(where its bind does not say: rate=5/s idle=60)\n") in capsys.readouterr().out


@pytest.mark.parametrize(("text", "told"), [
    (LISTENER.replace("?tls", "?idle=5"), "server 'echo': it accepts by itself (own), where nobody "
     "minds what is asked of them; expected its bind echo=127.0.0.1:9000?idle=5 without idle"),
    (LISTENER.replace("?tls", "").replace('"own"', '"own"; bind_options = {"rate": 3}'),
     "expected its bind_options without rate"),
    (LIMITED.replace("127.0.0.1:0?idle=9", "udp://127.0.0.1:0").replace(
        "asyncio.Protocol", "asyncio.DatagramProtocol"),
     "server 'echo': datagrams have no connections"),
    (LIMITED.replace('"1m"', "'soon'"), "Patient.bind_options: expected option 'idle' of a time"),
    (HTTP.replace("{}", "{'bind_options': {'idle': 'x'}}"),
     "servers: 'http': bind_options: expected option 'idle' of a time such as 90"),
])
def test_what_nobody_would_mind_is_refused(text: str, told: str, write: Write) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check([f"{write(text)}:Container", "--no-console"])
    assert told in str(caught.value)


def test_an_address_in_use_is_said(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(APPLICATION)
    monkeypatch.setattr("apihour.cli.check.try_bind",
                        lambda name, address: address.port != 9000)
    assert check([f"{name}:Container"]) == 0
    assert "127.0.0.1:9000 (in use now)" in capsys.readouterr().out


def test_a_runtime_directory_that_cannot_be(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(APPLICATION)
    monkeypatch.setenv("APIHOUR_RUNTIME_DIR", "/nowhere")
    with pytest.raises(ConfigurationError, match="APIHOUR_RUNTIME_DIR '/nowhere'"):
        check([f"{name}:Container"])


def test_binds_nothing_and_starts_nothing(write: Write, tmp_path: Path) -> None:
    name = write("""
class Container(apihour.Container):
    binds = {"echo": "unix:x.sock"}
    def make_servers(self): return {"echo": asyncio.Protocol}
    async def start(self): raise RuntimeError("must not be called")
""")
    assert check([f"{name}:Container"]) == 0
    assert not (tmp_path / "x.sock").exists()


def test_a_bare_application(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    name = write("async def app(scope, receive, send): pass\n")
    assert check([f"{name}:app", "-w", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["http", "asgi", "127.0.0.1:8000"]


def test_the_ancestors_form(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    name = write("""
class Container(apihour.Container):
    async def make_servers(self, sockets): raise RuntimeError("must not be called")
""")
    assert check([f"{name}:Container", "-b", "127.0.0.1:8001"]) == 0
    assert "make_servers(sockets) on 127.0.0.1:8001" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "words", "message"), [
    ("1 / 0\n", [], "py:3: 1 / 0: ZeroDivisionError"),
    ("class Container(apihour.Container):\n    def make_servers(self): return {'x': 3}\n", [],
     "server 'x': no plugin accepts 3 on a stream bind; asked: "),
    ("class Container(apihour.Container):\n    def make_servers(self): return [][0]\n", [],
     "make_servers() failed: "),
    ("class Container(apihour.Container):\n    def __init__(self): pass\n", [], "__init__"),
    ("class Container(apihour.Container):\n    binds = {'a': ':1'}\n"
     "    def make_servers(self): return {'b': asyncio.Protocol}\n", [],
     "server 'b' has no bind and bind 'a' has no server"),
    (APPLICATION, ["-b", "dns=:53"],
     "server 'dns': DatagramProtocol on a stream bind; expected a bind like udp://HOST:PORT"),
    (APPLICATION, ["-b", "dns=:53", "-b", "dns=udp://:53"], "its binds are of several kinds"),
    (APPLICATION, ["-b", "web=:80"], "bind 'web' has no server"),
])
def test_the_first_fault_is_one_line(
    write: Write, text: str, words: list[str], message: str
) -> None:
    name = write(text)
    with pytest.raises(ApihourError) as caught:
        check([f"{name}:Container", *words])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_protocols_lists_the_plugins_and_what_they_accept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list_protocols([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "asgi", "grpc", "http", "mux", "proxy", "ssh", "tcp", "udp", "wsgi"]
    assert "aiohttp.web.Application" in lines[2]
    assert not any("unusable" in line for line in lines)


@pytest.mark.parametrize(("line", "said"), [
    ("shared: postgres://x", "shared: url: 'postgres://x'; expected redis://, valkey://, unix://"),
    ("shared: {limit: 5}", "shared: 'limit'; expected of deadline, limit_bytes, or a url"),
    ("shared: {url: 'nats://127.0.0.1:4222', bucket: 'a b'}", "shared: bucket: 'a b'; expected"),
    ("bus: nat://127.0.0.1:4222", "bus: 'nat://127.0.0.1:4222'; expected nats://HOST:PORT"),
    ("bus: {url: 'nats://127.0.0.1:4222', user: ann}", "bus: 'user'; expected of credentials, tls"),
    ("bus: ''", "bus: ''; expected nats://HOST:PORT, a mapping with such a url, or nothing"),
    ("bus: {}", "bus: {}; expected nats://HOST:PORT, a mapping with such a url, or nothing"),
    ("bus: {url: ['nats://u:se@b', 5]}", "bus: {'url': ['nats://u:********@b', 5]}; expected nats"),
    ("bus: env:NOT_SET_HERE", "bus: url: env:NOT_SET_HERE: the variable is not set"),
])
def test_stores_and_buses_that_a_start_refuses(
    write: Write, tmp_path: Path, line: str, said: str
) -> None:
    name = write(APPLICATION)
    (tmp_path / "etc" / "main").mkdir(parents=True)
    (tmp_path / "etc" / "main" / "main.yaml").write_text(f"{line}\n")
    with pytest.raises(ConfigurationError) as told:
        check([f"{name}:Container", "--config_dir", "etc"])
    assert said in str(told.value)
    (tmp_path / "etc" / "main" / "main.yaml").write_text(
        "bus: nats://ann:secret@127.0.0.1:1\nshared: valkey://127.0.0.1:1\n")
    assert check([f"{name}:Container", "--config_dir", "etc"]) == 0
