"""The console process: started as the arbiter starts it, over a runtime directory we made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from apihour.ipc.made_again import make_board
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard, WorkerState
from apihour_console.settings import Settings
from tests.apihour_console.support import Typist, run, ssh_command, wait_until


class Process:
    """A console over a fake daemon of two workers without agents."""

    def __init__(self, directory: Path) -> None:
        self.base = directory / "run"
        self.runtime = Runtime(self.base / f"apihour-{os.getuid()}" / str(os.getpid()))
        self.base.mkdir()
        self.runtime.path.parent.mkdir(mode=0o700)
        self.runtime.path.mkdir(mode=0o700)
        self.keys = directory / "keys"
        self.home = directory / "home"
        (self.home / ".ssh").mkdir(parents=True)
        self.arbiter = os.getpid()
        self.process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.log = directory / "log"

    async def start(self, **settings: Any) -> None:
        self.runtime.write_instance({"pid": os.getpid(), "target": "hello:Container"})
        board = self.board = Scoreboard.create(str(self.runtime.scoreboard(self.arbiter)))
        for slot in (1, 2):
            row = board.claim(slot, 1)
            row.pid, row.state, row.accepting = os.getpid(), WorkerState.SERVING, 1.0
            row.heartbeat = time.monotonic() + 3600
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        self.port = sock.getsockname()[1]
        reading, writing = os.pipe()
        configuration = {
            "runtime": str(self.runtime.path), "keys": str(self.keys), "name": "hello",
            "fds": {"ssh": [sock.fileno()]}, "ready_fd": writing, "graceful_timeout": 1.0,
            **settings,
        }
        configuration["options"] = {"home": str(self.home), **settings.get("options", {})}
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "apihour_console", stdin=asyncio.subprocess.DEVNULL,
            stderr=log, pass_fds=[sock.fileno(), writing],
            env={**os.environ, "APIHOUR_CONSOLE": json.dumps(configuration)},
        )
        os.close(log)
        sock.close()
        os.close(writing)
        loop = asyncio.get_running_loop()
        with os.fdopen(reading, "rb") as ready:
            said = await asyncio.wait_for(loop.run_in_executor(None, ready.read), 20)
        assert said == b"READY\n", self.log.read_text()

    def authorise(self, role: str = "admin") -> Path:
        key = asyncssh.generate_private_key("ssh-ed25519", comment=f"{role}@test")
        self.keys.mkdir(exist_ok=True)
        path = self.keys.parent / f"id_{role}"
        path.write_bytes(key.export_private_key("openssh"))
        path.chmod(0o600)
        public = key.export_public_key("openssh").decode().strip()
        with open(self.keys / "authorized_keys", "a", encoding="utf-8") as file:
            file.write(f'role="{role}" {public}\n')
        return path

    async def ssh(self, key: Path, *words: str) -> tuple[int, str, str]:
        return await run(ssh_command(self.port, key, *words))

    async def ctl(self, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", _CTL, *words]
        os.environ["APIHOUR_RUNTIME_DIR"] = str(self.base)
        try:
            return await run(command)
        finally:
            del os.environ["APIHOUR_RUNTIME_DIR"]

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


_CTL = "import sys; from apihour_console.faces.local_client import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Process]:
    found = Process(tmp_path)
    yield found
    await found.stop()


async def test_one_command_by_ssh_and_by_the_local_socket(console: Process) -> None:
    key = console.authorise()
    await console.start()
    for words in (["version"], ["workers", "--json"], ["help"], ["nothing"]):
        by_ssh = await console.ssh(key, *words)
        by_socket = await console.ctl(*words)
        assert by_ssh[0] == by_socket[0], (by_ssh, by_socket)
        if words[0] != "workers":
            assert by_ssh[1:] == by_socket[1:]
    rows = json.loads((await console.ctl("workers", "--json"))[1])
    assert {row["worker"] for row in rows} == {"1.1", "2.1"}
    assert rows[0].keys() >= {
        "worker", "pid", "state", "age", "rss", "cpu", "lag", "connections"
    }
    status, _, err = await console.ctl("conns")
    assert status == 75 and "worker 1.1" in err
    assert console.runtime.console_socket.stat().st_mode & 0o777 == 0o600


async def test_told_to_leave_now_it_gives_the_screen_back(
    console: Process, typist: Typist
) -> None:
    """A killed one would leave whoever is in ``top`` on the alternate screen."""
    key = console.authorise()
    await console.start()
    await typist.start(ssh_command(console.port, key, options=["-tt"]))
    await typist.expect("> ?")
    await typist.type("top\r")
    await typist.expect("SERVER")
    assert console.process is not None
    console.process.send_signal(signal.SIGTERM)
    await wait_until(lambda: not console.runtime.console_socket.exists())
    assert console.process.returncode is None, "the session may go on"
    console.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(console.process.wait(), 20) == 0
    await typist.ended()
    assert "the console ends" in typist.seen
    assert "\x1b[?1049l" in typist.seen
    assert "Error" not in console.log.read_text()


async def test_first_start_from_a_terminal(console: Process) -> None:
    await console.start(terminal=True)
    text = console.log.read_text()
    made, listens = (line for line in text.splitlines() if "ssh " in line)
    typed = f"ssh -i {console.keys / 'admin_ed25519'} admin@127.0.0.1 -p {console.port}"
    assert made.endswith(typed) and listens.endswith(f"{typed} (1 key)")
    status, out, _ = await console.ssh(console.keys / "admin_ed25519", "version")
    assert status == 0 and "apihour" in out


@pytest.mark.parametrize("terminal", [False, True])
async def test_without_a_socket_it_says_what_turns_the_shell_on(
    console: Process, terminal: bool
) -> None:
    await console.start(fds={}, terminal=terminal)
    assert (await console.ctl("version"))[0] == 0
    text = console.log.read_text()
    if terminal:  # its address is taken, which the arbiter has said: a key would not help
        assert "network shell off" not in text
    else:
        (line,) = text.splitlines()
        assert "apihour keys add" in line
    assert not console.keys.exists()


async def test_without_keys_or_terminal_the_network_shell_is_off(console: Process) -> None:
    await console.start()
    lines = [line for line in console.log.read_text().splitlines() if "network shell off" in line]
    assert len(lines) == 1 and "apihour keys add" in lines[0]
    assert not console.keys.exists()
    assert (await console.ctl("version"))[0] == 0
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port)
    async with asyncio.timeout(10):  # told at once, not left to wait
        with contextlib.suppress(ConnectionResetError):
            assert b"nobody can log in here" in await reader.read()
    writer.close()
    key = console.authorise()
    status = 255
    async with asyncio.timeout(10):
        while True:  # keys that come later turn it on
            status, _, _ = await console.ssh(key, "version")
            if status == 0:
                break


async def test_an_open_session_outlives_the_order_to_go(console: Process, typist: Typist) -> None:
    key = console.authorise()
    await console.start()
    assert console.process is not None
    await typist.start(ssh_command(console.port, key, options=["-tt"]))
    await typist.expect("hello>")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        console.process.send_signal(number)  # mean something to the arbiter, nothing here
    await typist.type("version\r")
    await typist.expect("gunicorn")
    console.process.send_signal(signal.SIGTERM)
    await typist.expect("this console is going")
    await typist.type("version\r")
    await typist.expect("gunicorn")
    assert (await console.ctl("version"))[0] == 1
    await typist.type("exit\r")
    assert await typist.ended() == 0
    assert await asyncio.wait_for(console.process.wait(), 10) == 0


async def test_it_ends_when_the_daemon_is_gone(console: Process, typist: Typist) -> None:
    key = console.authorise()
    await console.start()
    assert console.process is not None
    await typist.start(ssh_command(console.port, key, options=["-tt"]))
    await typist.expect("hello>")
    console.board.let_go()
    assert await asyncio.wait_for(console.process.wait(), 15) == 0
    await typist.expect("going")
    await typist.ended()


async def test_it_stays_when_the_runtime_directory_vanishes_and_comes_back(
    console: Process
) -> None:
    await console.start()
    assert console.process is not None
    away = console.runtime.path.rename(console.base / "away")
    await asyncio.sleep(2.5)  # more than two looks
    assert console.process.returncode is None
    console.runtime.path.mkdir(mode=0o700)
    console.runtime.write_instance({"pid": os.getpid(), "target": "hello:Container"})
    board = str(console.runtime.scoreboard(console.arbiter))
    make_board(console.board, board, (os.getuid(), os.getgid()))
    await wait_until(console.runtime.console_socket.exists)
    rows = json.loads((await console.ctl("workers", "--json"))[1])
    assert {row["worker"] for row in rows} == {"1.1", "2.1"}
    assert (away / "console.sock").exists(), "the old one was not this one's to take away"


async def test_sessions_and_audit(console: Process) -> None:
    key = console.authorise()
    console.authorise("observer")
    await console.start()
    status, out, _ = await console.ssh(key, "sessions", "--json")
    rows = json.loads(out)
    assert status == 0 and [(row["user"], row["command"]) for row in rows] == [
        ("admin@test", "sessions --json")
    ]
    status, out, _ = await console.ctl("audit", "--json")
    commands = [json.loads(line) for line in out.splitlines()] if out[0] == "{" else json.loads(out)
    assert "sessions --json" in [row["command"] for row in commands]
    assert (await console.ssh(console.keys.parent / "id_observer", "audit"))[0] == 126


async def test_an_admin_ends_a_session_of_another(console: Process, typist: Typist) -> None:
    console.authorise()
    operator = console.authorise("operator")
    await console.start()
    await typist.start(ssh_command(console.port, operator, options=["-tt"]))
    await typist.expect("hello>")
    status, out, _ = await console.ctl("sessions", "--json")
    number = json.loads(out)[0]["id"]
    status, _, err = await console.ssh(operator, "sessions", "--kick", str(number))
    assert status == 126 and "--kick needs role admin" in err
    status, out, err = await console.ctl("sessions", "--kick", str(number), "--json")
    assert (status, err) == (0, "") and [row["id"] for row in json.loads(out)] == [number]
    await typist.expect(r"ended by \w+: goodbye")
    await typist.ended()
    assert json.loads((await console.ctl("sessions", "--json"))[1]) == []
    log = [json.loads(line) for line in (console.keys / "audit.jsonl").read_text().splitlines()]
    kicked = [one for one in log if one["event"] == "kicked"]
    assert [(one["user"], one["outcome"][:9]) for one in kicked] == [("operator@test", "ended by ")]


async def test_ctl_ends_with_its_reader(console: Process) -> None:
    await console.start()
    os.environ["APIHOUR_RUNTIME_DIR"] = str(console.base)
    try:
        started = time.monotonic()
        _, out, _ = await run([
            "sh", "-c",
            f"'{sys.executable}' -c '{_CTL}' audit -f | head -0; echo done",
        ])
    finally:
        del os.environ["APIHOUR_RUNTIME_DIR"]
    assert "done" in out and time.monotonic() - started < 5


async def test_ctl_without_a_daemon(tmp_path: Path) -> None:
    empty = Process(tmp_path)
    empty.runtime.path.rmdir()
    status, out, err = await empty.ctl("version")
    assert status == 1 and out == "" and err.count("\n") == 1
    assert err == (f"apihour ctl: no daemon is running: none found in {empty.runtime.path.parent}; "
                   "expected one of this user, with the same APIHOUR_RUNTIME_DIR\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense", "expected a JSON object"), ("[]", "expected a JSON object"),
        ('{"runtime": "x"}', "missing ['keys']"),
        ('{"runtime": "x", "keys": "y", "colour": 1}', "unknown ['colour']"),
    ],
)
def test_bad_settings_are_one_line(text: str, expected: str) -> None:
    with pytest.raises(Exception, match="APIHOUR_CONSOLE") as caught:
        Settings.from_json(text)
    assert expected in str(caught.value)


@pytest.mark.alone
async def test_console_imports_no_application_and_starts_fast(console: Process) -> None:
    console.authorise()
    started = time.monotonic()
    await console.start()
    assert time.monotonic() - started < 5
    await wait_until(console.runtime.console_socket.exists)
