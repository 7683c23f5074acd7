"""What bad input gets: one line that names it, status 1 or 2, nothing left behind."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest

from tests.system.support import echo, get, refused, run


def module(directory, name, text):
    (directory / f"{name}.py").write_text(text)


CONTAINER = """
import asyncio, apihour
class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}
    def make_servers(self):
        return {"echo": asyncio.Protocol}
"""

CASES = {
    "no such module": ("nothing_here", "", "nothing_here:Container", ["nothing_here"]),
    "no such class": ("app", CONTAINER, "app:Missing", ["Missing", "app.py", "Container"]),
    "no target syntax": ("app", CONTAINER, "app.py:Container", ["app.py:Container"]),
    "a syntax error": ("app", "def broken(:\n", "app:Container", ["app.py:1", "def broken(:"]),
    "an import that fails": (
        "app", "import json\nimport not_installed\n", "app:Container",
        ["app.py:2", "import not_installed", "ModuleNotFoundError"]),
    "an exit at import": ("app", "raise SystemExit(7)\n", "app:Container", ["app.py:1"]),
    "binds of a wrong shape": (
        "app", CONTAINER.replace('{"echo": "127.0.0.1:0"}', "[1]"), "app:Container",
        ["app.Container.binds", "[1]"]),
    "a bad address": (
        "app", CONTAINER.replace("127.0.0.1:0", "127.0.0.1:http"), "app:Container",
        ["echo", "127.0.0.1:http"]),
    "a bind without a server": (
        "app", CONTAINER.replace('return {"echo"', 'return {"other"'), "app:Container",
        ["'other'", "'echo'"]),
    "a server of no known kind": (
        "app", CONTAINER.replace("asyncio.Protocol}", "42}"), "app:Container", ["'echo'", "42"]),
    "a failing constructor": (
        "app", CONTAINER + "    def __init__(self, **k):\n        raise ValueError('no')\n",
        "app:Container", ["app.py:8", "ValueError: no"]),
    "a failing pre_start": (
        "app", CONTAINER + "    async def pre_start(self):\n        1 / 0\n",
        "app:Container", ["app:Container", "pre_start()", "app.py:8", "1 / 0", "ZeroDivision"]),
    "a failing start": (
        "app", CONTAINER + "    async def start(self):\n        self.engines['db'].go()\n",
        "app:Container", ["app:Container", "start()", "app.py:8", "self.engines['db'].go()"]),
    "a failing make_servers": (
        "app", CONTAINER.replace("return {", "return undefined or {"), "app:Container",
        ["make_servers()", "app.py:6", "undefined"]),
    "a class that is no container": (
        "app", CONTAINER.replace("(apihour.Container)", ""), "app:Container",
        ["the class Container, which is no container; expected a subclass of apihour.Container"]),
    "a protocol instead of its class": (
        "app", CONTAINER.replace("asyncio.Protocol}", "asyncio.Protocol()}"), "app:Container",
        ["server 'echo': one instance of Protocol", "expected the class: Protocol"]),
    "a hook that is no method": (
        "app", CONTAINER + "    start = 5\n", "app:Container",
        ["container app:Container: start = 5 (", "app.py:7: start = 5", "def start(self)"]),
    "a hook of another signature": (
        "app", CONTAINER + "    async def cleanup(self, engines): pass\n", "app:Container",
        ["cleanup() cannot be called: missing a required argument: 'engines' (", "app.py:7: "]),
    "a factory that makes nothing": (
        "app", "async def init_app():\n    pass\n", "app:init_app",
        ["init_app() made None; expected an application"]),
    "a command that cannot be one": (
        "app", CONTAINER + "    @apihour.command()\n    async def orders(self, *, limit: int = 5)"
        " -> str:\n        'The orders.'\n", "app:Container", ["orders", "limit"]),
    "at start, a factory of no protocol": (
        "app", CONTAINER.replace("asyncio.Protocol}", "lambda: 42}"), "app:Container",
        ["server 'echo' (tcp) cannot start: factory app.Container", "returned 42, expected a pro"]),
    "at start, a factory of no datagram protocol": (
        "app", CONTAINER.replace("asyncio.Protocol}", "lambda: 42}").replace("127", "udp://127"),
        "app:Container", ["server 'echo' (udp) cannot start: factory app.Container", "eturned 42"]),
    "a failing event loop": (
        "app", CONTAINER + "    @classmethod\n    def make_event_loop(cls, config):\n"
        "        raise OSError('no loop')\n", "app:Container", ["app.py:9", "no loop"]),
}


@pytest.mark.parametrize("case", CASES)
def test_application(case, tmp_path):
    name, text, target, words = CASES[case]
    if text:
        module(tmp_path, name, text)
    quiet = ["--no-console"] if "command" not in case else []
    # What declares no bind would take the port that is the default.
    given = {"env": {"APIHOUR_BIND_HTTP": "127.0.0.1:0"}} if "binds =" not in text and text else {}
    line = refused(target, *quiet, "--workers", "2", cwd=tmp_path, **given)
    for word in words:
        assert word in line
    if "start" not in case:
        # `check` says the same, without starting anything.
        assert refused("check", target, cwd=tmp_path, **given) == line


# Refused before anything is done. Each is in the environment too.
TYPED = [
    (["--workers", "many"], "--workers: 'many'; expected a number from 1 to 128, or a range"),
    (["--timeout", "soon"], "--timeout: 'soon'; expected a whole number, 0 or more"),
    (["--linger=-1"], "--linger: '-1'; expected seconds, like 10, 0.5 or 5m"),
    (["-b", "echo=nonsense"], "--bind: 'echo=nonsense'; expected HOST:PORT, "),
    (["-b", "echo=127.0.0.1:99999"], "--bind: 'echo=127.0.0.1:99999'; expected a port from 0"),
    (["-b", "echo=unix:"], "--bind: 'echo=unix:'; expected unix:PATH or unix:@NAME"),
    (["--console", "nonsense"], "--console: 'nonsense'; expected HOST:PORT, "),
    (["--health", "127.0.0.1:0?tls"], "--health: '127.0.0.1:0?tls'; expected an address without"),
    (["--log-level", "nope"], "--log-level: 'nope'; expected one of debug, info"),
    (["--ssl-version", "TLSv1"], "--ssl-version: refused: TLS 1.2 and later are spoken"),
    (["--worker-class", "sync"], "--worker-class: refused: there is one kind of worker"),
    (["--preload"], "--preload: refused: "),
    (["--user", "nobody-of-that-name"], "--user: 'nobody-of-that-name'; expected the name or"),
]

UNREADABLE = [
    (["--no-such-option"], "unrecognized arguments: --no-such-option; 'apihour run --help'"),
    (["--keys"], "argument --keys: expected one argument; 'apihour run --help' lists"),
]


@pytest.mark.parametrize(("status", "options", "message"), [
    *((1, *each) for each in TYPED), *((2, *each) for each in UNREADABLE)])
def test_what_was_typed(status, options, message, tmp_path):
    module(tmp_path, "app", CONTAINER)
    line = refused("app:Container", "--no-console", *options, cwd=tmp_path, status=status)
    assert line.startswith(message)
    given = {"GUNICORN_CMD_ARGS": " ".join(options)}
    line = refused("app:Container", "--no-console", cwd=tmp_path, env=given)
    assert line.startswith(f"GUNICORN_CMD_ARGS: {message}")


@pytest.mark.parametrize(("words", "message"), [
    (["run"], "expected one target, module:Container; got none"),
    (["check", "-w", "2"], "expected one target, module:Container; got none"),
    (["dev"], "expected one target, module:Container; got none"),
    (["a:B", "c:D"], "expected one target, module:Container; got a:B c:D"),
    (["check", "a:B", "c:D"], "expected one target, module:Container; got a:B c:D"),
    (["check", "a:B", "--no-such"], "unrecognized arguments: --no-such"),
    (["nonsense"], "'nonsense': expected module:Container or one of check, completion, "),
    (["nonsense", "a:B"], "'nonsense': expected module:Container or one of check, completion, "),
    (["protocols", "x"], "protocols: takes no arguments, got 'x'"),
])
def test_a_wrong_command_line(words, message, tmp_path):
    assert refused(*words, cwd=tmp_path, status=2).startswith(message)


@pytest.mark.parametrize("words", [
    ["ctl", "--no-such"], ["upgrade", "--instance"], ["keys", "no-such"], [],
])
def test_a_wrong_command_line_of_the_others(words, tmp_path):
    result = run(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


# Right as typed, but it cannot be done: exit status 1.
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-b", "other=127.0.0.1:0"], ["'other'"]),
        (["-b", "echo=fd://97"], ["bind echo=fd://97: no descriptor of that number is open; "
                                  "expected an inherited socket"]),
        (["-b", "echo=systemd:web"], ["systemd:web"]),
        (["-b", "echo=192.0.2.1:0"], ["echo=192.0.2.1:0: expected an address of this machine"]),
        (["-b", "echo=unix:/nowhere/x"], ["echo=unix:/nowhere/x: no such directory; expected"]),
        (["-c", "missing.py"], ["missing.py"]),
        (["--config_dir", "missing"], ["--config_dir", "'missing'"]),
        (["-ac"], ["-ac", "etc/app"]),
        (["--chdir", "missing"], ["--chdir", "'missing'; expected a directory that exists"]),
        (["--certfile", "x.pem"], ["--certfile 'x.pem'", "no bind uses it", "?tls"]),
        (["-b", "echo=127.0.0.1:0?tls"], ["echo", "?tls", "no certificate", "--certfile"]),
        (["-b", "echo=127.0.0.1:0?tls=x.pem"], ["echo", "'x.pem'", "No such file"]),
        (["-b", "echo=127.0.0.1:0?tls", "--certfile", "app.py"], ["'app.py'", "PEM"]),
        (["-b", "echo=127.0.0.1:0?tls", "--certfile", "x.pem"],
         ["--certfile 'x.pem': No such file or directory; expected a certificate in PEM format"]),
        (["--pid", "missing/pid"], ["--pid", "missing/pid"]),
        (["--pid", "/dev"], ["--pid '/dev': Is a directory; expected a file that can be wr"]),
        (["--logger-class", "no.such.Logger"], ["no.such.Logger"]),
        (["--log-config", "missing.ini"], ["--log-config 'missing.ini': "]),
        (["--error-logfile", "missing/log"], ["--error-logfile 'missing/log': No such file or "
                                              "directory; expected a file that can be written"]),
        (["--access-logfile", "missing/log"], ["--access-logfile 'missing/log': No such file"]),
        (["--health", "fd://97"], ["--health fd://97: no descriptor of that number is open"]),
        (["--health", "127.0.0.1:0", "--no-console"], ["'127.0.0.1:0'", "console process"]),
    ],
)
def test_options(options, words, tmp_path):
    module(tmp_path, "app", CONTAINER)
    console = [] if options[0] in ("--console", "--health") else ["--no-console"]
    line = refused("app:Container", *console, *options, cwd=tmp_path)
    for word in words:
        assert word in line
    if not re.search("fd://|systemd:", str(options)):  # what a service manager passes to a start
        assert refused("check", "app:Container", *console, *options, cwd=tmp_path) == line


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("APIHOUR_BIND_HTTP", "nonsense", "APIHOUR_BIND_HTTP: 'nonsense'; expected HOST:PORT, "),
    ("APIHOUR_BIND_ECHO", ":99999", "APIHOUR_BIND_ECHO: ':99999'; expected a port from 0 to 65535"),
    ("APIHOUR_BIND_", ":1", "APIHOUR_BIND_: expected the name of a server after APIHOUR_BIND_"),
    ("WEB_CONCURRENCY", "x", "WEB_CONCURRENCY: 'x'; expected a number from 1 to 128"),
    ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY: '0'; expected a number from 1 to 128"),
])
def test_variables(variable, value, message, tmp_path):
    module(tmp_path, "app", CONTAINER)
    line = refused("app:Container", "--no-console", cwd=tmp_path, env={variable: value})
    assert line.startswith(message)


@pytest.mark.parametrize(("sections", "words"), [
    ({"ech": {"max_body": 5}}, "servers: 'ech': expected one of echo"),
    (5, "servers: 5; expected a mapping of server name to options"),
    ({"echo": {"max_body": 5}}, "servers: 'echo': 'max_body'; expected no options, a server of"),
])
def test_options_of_no_server(sections, words, tmp_path):
    module(tmp_path, "app", CONTAINER)
    (tmp_path / "etc" / "main").mkdir(parents=True)
    (tmp_path / "etc" / "main" / "main.json").write_text(json.dumps({"servers": sections}))
    line = refused("app:Container", "--no-console", "--config_dir", "etc", cwd=tmp_path)
    assert words in line
    assert refused("check", "app:Container", "--config_dir", "etc", cwd=tmp_path) == line


def test_port_in_use_and_the_socket_opened_before_it_is_closed(tmp_path, system_apps):
    path = tmp_path / "echo.sock"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused("house:Container", "-b", f"echo=unix:{path}", "-b", f"http={address}",
                       "--no-console", cwd=system_apps)
    assert f"http={address}" in line
    assert "in use" in line
    assert not path.exists()


def test_unix_path_that_is_something_else(tmp_path, system_apps):
    directory, file = tmp_path / "directory", tmp_path / "file"
    directory.mkdir()
    file.write_text("precious")
    for path, word in ((directory, "a directory"), (file, "no socket")):
        line = refused("echo:Container", "-b", f"echo=unix:{path}", "--no-console", cwd=system_apps)
        assert str(path) in line
        assert word in line
    assert file.read_text() == "precious"


def test_config_file_is_blamed_by_file_and_line(tmp_path):
    module(tmp_path, "app", CONTAINER)
    (tmp_path / "conf.py").write_text("workers = 2\nbacklog = nonsense\n")
    line = refused("app:Container", "-c", "conf.py", "--no-console", cwd=tmp_path)
    assert "conf.py:2: backlog = nonsense: NameError" in line
    (tmp_path / "conf.py").write_text("workers = 'lots'\n")
    line = refused("app:Container", "-c", "conf.py", "--no-console", cwd=tmp_path)
    assert "conf.py" in line
    assert "lots" in line


@pytest.mark.parametrize("way", ["-c", "python:", "tree"])
def test_a_misspelt_setting_is_refused_with_its_line(way, tmp_path):
    module(tmp_path, "app", CONTAINER)
    path = tmp_path / ("etc/api_hour/gunicorn_conf.py" if way == "tree" else "conf.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("workers = 1\ntimout = 3\n")
    words = {"-c": ["-c", "conf.py"], "python:": ["-c", "python:conf"],
             "tree": ["--config_dir", "etc"]}[way]
    line = refused("app:Container", "--no-console", *words, cwd=tmp_path)
    assert "conf.py:2: 'timout' is no setting; did you mean 'timeout'?" in line
    assert refused("check", "app:Container", *words, cwd=tmp_path) == line


@pytest.mark.parametrize(("words", "status"), [
    (["app:Container", "-b", "echo=" + "x" * 2000], 1),
    (["app:" + "y" * 2000], 1), (["app:Container", "-b", "echo=\x1b[31m:\x07"], 1),
    (["app:\x1b]0;title\x07"], 1), (["app:Container", "--no-such-\x1b[31m" + "z" * 2000], 2),
    (["\x9b31m" + "q" * 2000], 2), (["app:Container", b"--pid=\xff\xfe\x1b/x"], 1),
    (["app:Container", "--chdir", "\n\n\n" + "w" * 3000], 1),
])
def test_garbage_is_cut_and_harmless(words, status, tmp_path):
    module(tmp_path, "app", CONTAINER)
    words = [os.fsdecode(word) if isinstance(word, bytes) else word for word in words]
    for command in ([], ["check"]):
        result = subprocess.run(
            [sys.executable, "-m", "apihour", *command, *words], cwd=tmp_path, timeout=30,
            capture_output=True, stdin=subprocess.DEVNULL)
        if command and words[0].startswith("\x9b"):
            continue  # there it is a target
        (line,) = [line for line in result.stderr.splitlines() if b"[INFO]" not in line]
        assert result.returncode == status, line
        assert line.startswith(b"apihour: error: ")
        assert len(line) < 1600
        assert line.decode().isprintable()


def test_debug_shows_the_traceback(tmp_path):
    module(tmp_path, "app", "1 / 0\n")
    result = run("app:Container", "--debug", "--no-console", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "app.py" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("apihour: error: ")


def test_import_that_hangs(tmp_path):
    module(tmp_path, "app", "import time\ntime.sleep(60)\n")
    line = refused("app:Container", "--boot-timeout", "0.5", "--no-console", cwd=tmp_path)
    assert "0.5 s" in line


def test_partial_start_is_cleaned_up(tmp_path):
    module(tmp_path, "app", CONTAINER + """
    async def start(self):
        self.engines["db"] = "open"
        raise RuntimeError("halfway")
    async def cleanup(self):
        print("closing", self.engines["db"], flush=True)
""")
    result = run("app:Container", "--workers", "1", "--no-console", cwd=tmp_path)
    assert result.stdout.splitlines() == ["closing open"]
    assert "halfway" in result.stderr
    assert result.returncode == 1
    assert result.left == []


def test_one_bad_worker_of_two_ends_the_start(tmp_path):
    module(tmp_path, "app", CONTAINER + """
    async def start(self):
        if self.worker.name.startswith("2."):
            raise RuntimeError("the second one")
""")
    assert "the second one" in refused("app:Container", "--no-console", "-w", "2", cwd=tmp_path)


def test_a_shell_with_keys_that_cannot_be_read(system_apps, tmp_path):
    keys = tmp_path / "keys"
    words = ("house:Container", "--console", "127.0.0.1:0", "--keys", str(keys), "-w", "1")
    keys.write_text("")
    assert refused(*words, cwd=system_apps) == f"--keys {str(keys)!r}: expected a directory"
    keys.unlink()
    (keys / "authorized_keys").mkdir(parents=True)
    assert refused(*words, cwd=system_apps).endswith(
        "authorized_keys: Is a directory; expected a file that can be read")
    (keys / "authorized_keys").rmdir()
    (keys / "ssh_host_ed25519_key").write_text("garbage")
    assert refused(*words, cwd=system_apps).endswith(
        "ssh_host_ed25519_key: expected a private key in PEM format")
    key = keys / "ssh_host_ed25519_key"
    key.write_text("-----BEGIN OPENSSH" + " PRIVATE KEY-----")
    key.chmod(0o640)
    assert refused(*words, cwd=system_apps).endswith(
        f"{key}: mode 0640 lets others read a private key; expected 0600: chmod 600 {key}")
    wrong = ("house:Container", "--console", "nonsense", "-w", "1")
    assert refused(*wrong, cwd=system_apps).startswith("--console: 'nonsense'; expected")


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff\xfe" * 5000, b"GET / HTTP/9.9\r\n\r\n",
                                     b"\x16\x03\x01\x02\x00" + os.urandom(500), b"\r\n" * 1000])
def test_garbage_costs_its_own_connection_only(apihour_module_daemon, system_apps, garbage):
    started = apihour_module_daemon.daemons
    daemon = started[0] if started else apihour_module_daemon(
        "house:Container", cwd=system_apps, workers=1)
    with daemon.connect("echo") as other, daemon.connect("http") as sock:
        echo(other)
        try:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass  # it may be cut off while it still sends
        echo(other)
    before = daemon.workers()[0]
    assert get(daemon)["pid"] == before.pid
    assert "Traceback" not in daemon.log


def test_stdout_of_a_failure_is_empty_and_a_closed_stderr_harmless(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "apihour", "nothing:Here", "--no-console"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    assert (result.returncode, result.stdout) == (1, b"")
