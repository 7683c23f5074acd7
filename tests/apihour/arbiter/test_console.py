"""Supervising the console process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.arbiter import console as module
from apihour.arbiter.console import ConsoleKeeper, ConsoleProcess
from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener, open_listeners
from apihour.config.settings import HostConfig
from apihour.ipc.scoreboard import Figure
from tests.apihour.fake_crew import Clock, FakeCrew


def opened(name: str, text: str = "127.0.0.1:0") -> Listener:
    return open_listeners([(name, parse_address(text), 0)], 16, {})[0]


class Started(subprocess.Popen[bytes]):
    """Written down instead of started."""

    all: list[Started]

    def __init__(self, args: list[str], **options: Any) -> None:
        self.args, self.options = args, options
        self.pid = 7000 + len(self.all)
        self.returncode: int | None = None  # type: ignore[assignment]
        self.all.append(self)

    def __del__(self, *_: Any) -> None: ...

    @property
    def configuration(self) -> Any:
        return json.loads(self.options["env"]["APIHOUR_CONSOLE"])


class House:
    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.started: list[Started] = []
        self.kills: list[tuple[int, int]] = []
        monkeypatch.setattr(Started, "all", self.started, raising=False)
        monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(module.subprocess, "Popen", Started)
        monkeypatch.setattr(module.os, "kill", lambda pid, sig: self.kills.append((pid, sig)))
        self.crew: Any = FakeCrew(self.clock)
        self.crew.books.runtime = SimpleNamespace(path=tmp_path)
        self.crew.books.proc_name = "hello"
        self.crew.books.listeners = [opened("http"), opened("ssh")]
        self.crew.books.cfg = HostConfig()
        self.crew.books.cfg.set("keys", str(tmp_path / "keys"))
        self.keeper = ConsoleKeeper(self.crew.books)

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.keeper.advance()

    def end(self, process: Started, status: int = 1 << 8) -> bool:
        return self.keeper.on_exit(process.pid, status)

    def close(self) -> None:
        for listener in [*self.crew.books.listeners, *self.crew.books.extras.values()]:
            listener.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(module, "DEFAULT_CONSOLE", "127.0.0.1:0")
    made = House(tmp_path, monkeypatch)
    yield made
    made.close()


PLAIN: dict[str, Any] = {"servers": [], "shells": {}}
SHELL: dict[str, Any] = {
    "servers": [{"name": "ssh", "options": {"banner": "hi"}}, {"name": "http", "options": {}}],
    "shells": {"ssh": ["ssh"]},
}


def test_it_is_execed_with_its_own_listeners_only(house: House) -> None:
    house.keeper.manage(SHELL)
    house.turn()
    (started,) = house.started
    ssh = house.crew.books.listeners[1]
    assert started.args[1:] == ["-P", "-m", "apihour_console"]
    assert started.options["pass_fds"] == [ssh.fileno()]
    assert started.options["stdin"] == subprocess.DEVNULL
    assert started.options["start_new_session"]
    assert started.configuration["fds"] == {"ssh": [ssh.fileno()]}
    assert started.configuration["listen"] == [ssh.url]
    assert started.configuration["options"] == {"banner": "hi"}
    assert started.configuration["errorlog"] == "-"
    assert house.keeper.pids() == [started.pid]


def test_it_logs_where_the_arbiter_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.crew.books.cfg.set("errorlog", "error.log")
    house.keeper.manage(PLAIN)
    masks: list[set[int]] = []

    def start(*args: Any, **options: Any) -> Started:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return Started(*args, **options)

    monkeypatch.setattr(module.subprocess, "Popen", start)
    house.turn()
    (started,) = house.started
    assert started.configuration["errorlog"] == os.path.abspath("error.log")
    assert signal.SIGUSR1 in masks[0]  # until it can obey
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_health_is_handed_over(house: House) -> None:
    health = house.crew.books.extras["health"] = opened("@health")
    house.keeper.manage(PLAIN)
    house.turn()
    assert house.started[0].configuration["health"] == {"fd": health.fileno()}
    assert health.fileno() in house.started[0].options["pass_fds"]


@pytest.mark.parametrize("keys", [True, False])
def test_undeclared_the_shell_is_on_where_keys_allow_it(
    house: House, tmp_path: Path, keys: bool
) -> None:
    if keys:
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "authorized_keys").write_text("")
    house.keeper.manage(PLAIN)
    house.turn()
    assert bool(house.started[0].configuration["listen"]) is keys


def test_the_first_key_turns_the_shell_on(house: House, tmp_path: Path) -> None:
    house.keeper.manage(PLAIN)
    house.turn()
    house.turn(10.0)
    assert [one.configuration["listen"] for one in house.started] == [[]]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "authorized_keys").write_text("")
    house.turn(2.0)
    before, after = house.started
    (url,) = after.configuration["listen"]
    assert (before.configuration["listen"], len(after.configuration["fds"]["ssh"])) == ([], 1)
    assert url == house.crew.books.extras["console"].url
    assert house.kills == [(before.pid, signal.SIGTERM)]
    house.end(before, "exit status 0")
    house.turn(10.0)
    assert len(house.started) == 2 and house.crew.log.lines == [
        f"Listening at: @console={url.removeprefix('tcp://')}"]


def test_the_default_port_taken_is_a_warning(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "authorized_keys").write_text("")
    monkeypatch.setattr(
        module, "DEFAULT_CONSOLE", f"127.0.0.1:{house.crew.books.listeners[0].getsockname()[1]}")
    for _ in range(3):  # the workers that are ready, one after the other
        house.keeper.manage(PLAIN)
    house.turn()
    (line,) = house.crew.log.lines
    assert line.startswith("No SSH shell: ") and line.endswith("the local one works: apihour ctl")
    assert house.started[0].configuration["listen"] == []


@pytest.mark.parametrize("state", ["no_console", "stopping"])
def test_switched_off_there_is_none(house: House, state: str) -> None:
    house.crew.books.cfg.set("no_console", state == "no_console")
    house.crew.books.stopping = state == "stopping"
    house.keeper.manage(SHELL)
    house.turn()
    assert house.started == []


def test_it_is_started_again_later_and_later(house: House) -> None:
    house.keeper.manage(SHELL)
    delays = []
    for _ in range(6):
        house.turn()
        assert house.end(house.started[-1])
        waited = 0.0
        while house.keeper.pids() == [] and waited < 20:
            house.turn(0.05)
            waited += 0.05
        delays.append(round(waited, 2))
    assert delays == sorted(delays)
    assert delays[0] <= 0.5 and 4.5 <= delays[-1] <= 5.5
    assert "Console (pid: 7000) ended (exit status 1), starting it again" in (
        house.crew.log.lines[0])
    assert house.crew.counted == [Figure.CONSOLE_RESTARTS] * 6


def test_a_long_life_starts_the_count_again(house: House) -> None:
    house.keeper.manage(SHELL)
    for _ in range(5):
        house.turn(10)
        house.end(house.started[-1])
    house.turn(10)
    house.turn(60)
    house.end(house.started[-1])
    count = len(house.started)
    house.turn(0.06)
    assert len(house.started) == count + 1


def test_the_same_again_changes_nothing(house: House) -> None:
    house.keeper.manage(SHELL)
    house.turn()
    house.keeper.manage(SHELL)
    house.turn()
    assert (len(house.started), house.kills) == (1, [])


def test_when_what_it_serves_changed_a_new_one_takes_over(house: House) -> None:
    house.keeper.manage(SHELL)
    house.turn()
    house.crew.books.cfg.set("loglevel", "debug")
    house.keeper.manage(SHELL)
    house.turn()
    old, new = house.started
    assert house.kills == [(old.pid, signal.SIGTERM)]
    assert sorted(house.keeper.pids()) == [old.pid, new.pid]
    assert house.end(old)  # it leaves with its last session, and nobody minds
    assert house.crew.log.lines == []
    assert house.keeper.pids() == [new.pid]


def test_another_child_is_not_its(house: House) -> None:
    house.keeper.manage(SHELL)
    house.turn()
    assert not house.keeper.on_exit(4, 0)
    assert house.keeper.pids() == [house.started[0].pid]


def test_a_signal_reaches_every_console(house: House) -> None:
    house.keeper.manage(SHELL)
    house.keeper.signal(signal.SIGUSR1)  # none runs yet
    house.turn()
    house.keeper.signal(signal.SIGUSR1)
    assert house.kills == [(house.started[0].pid, signal.SIGUSR1)]


def test_no_process_for_it_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(module.subprocess, "Popen", fail)
    console = ConsoleProcess({}, [], None)
    console.keep_up()
    assert console.pid == 0
    monkeypatch.setattr(module.subprocess, "Popen", Started)
    console.keep_up()
    assert console.pid == 0
    house.clock.now += 6
    console.keep_up()
    assert console.pid != 0


def test_one_that_is_gone_is_not_signalled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(pid: int, sig: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    house.keeper.manage(SHELL)
    house.turn()
    house.keeper.signal(signal.SIGTERM)
