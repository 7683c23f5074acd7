"""Handing the sockets to a new arbiter, with a real process in its place."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.arbiter.arbiter import HostArbiter
from apihour.arbiter.pid_file import replace_pidfile
from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener, open_listeners
from apihour.books.books import INHERITED, Books
from apihour.upgrade.inheritance import Inheritance
from apihour.upgrade.upgrade import Upgrade
from tests.apihour.fake_crew import FakeLog, make_cfg

NEW_ARBITER = """
import json, os, sys, time
from types import SimpleNamespace
from apihour.books.books import INHERITED, Books
from apihour.upgrade.inheritance import Inheritance

assert "LISTEN_FDS" not in os.environ
books = Books(SimpleNamespace(call=lambda *given: None))
inheritance = Inheritance(json.loads(os.environ.pop(INHERITED)), books, lambda: None)
what = sys.argv[1]
if what == "serves":
    with open(sys.argv[2], "w") as file:
        json.dump({
            "listeners": [[x.name, str(x.address), x.url, x.owns_path, x.slot,
                           os.get_inheritable(x.fileno()), x.sock.getblocking()]
                          for x in books.all_listeners()],
            "generation": books.generation, "workers": books.operator_workers,
            "runtime": str(books.runtime.path), "systemd": books.systemd,
            "directory": os.getcwd(), "secret": os.environ.get("FROM_RAW_ENV"),
        }, file)
    books.num_workers = 1
    books.workers = {1: SimpleNamespace(ready=True)}
    inheritance.advance()
elif what == "fails":
    inheritance.fail("bind http: no", "Traceback")
elif what == "hangs":
    time.sleep(60)
"""


class House:
    """An old arbiter with two listeners, and what it was answered."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script = directory / "new_arbiter.py"
        self.script.write_text(NEW_ARBITER)
        self.report = directory / "report.json"
        self.directory = directory / "start"
        self.directory.mkdir()
        self.monkeypatch = monkeypatch
        self.answers: list[tuple[dict[str, Any], str]] = []
        self.listeners = open_listeners(
            [("http", parse_address("127.0.0.1:0"), 0),
             ("x", parse_address(f"unix:{directory}/x.sock?mode=600"), 0)], 16, {})
        environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}
        self.books = books = Books(Mock())
        books.listeners, books.extras = self.listeners[:1], {"console": self.listeners[1]}
        books.runtime = SimpleNamespace(path="/run/somewhere")  # type: ignore[assignment]
        books.systemd, books.pid, books.log = True, os.getpid(), FakeLog()
        books.generation, books.releases = 7, ["/r"]
        books.scale(3)
        books.app = SimpleNamespace(directory=str(self.directory))
        books.cfg = SimpleNamespace(env_orig=environment, boot_timeout=30.0)
        self.upgrade: Upgrade | None = None

    def start(self, what: str) -> Upgrade:
        self.monkeypatch.setattr(
            sys, "orig_argv", [sys.executable, str(self.script), what, str(self.report)])
        self.upgrade = Upgrade(self.books, lambda *answer: self.answers.append(answer))
        self.upgrade.start()
        return self.upgrade

    def turn_until_over(self) -> None:
        assert self.upgrade is not None
        while not self.upgrade.succeeded and self.upgrade.failed is None:
            assert select.select([self.upgrade], [], [], 30)[0], "the new arbiter says nothing"
            self.upgrade.advance()

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        if self.upgrade is not None:
            self.upgrade.close()
            if self.upgrade._process.poll() is None:
                self.upgrade._process.kill()
                self.upgrade._process.wait()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tmp_path, monkeypatch)
    yield made
    made.close()


def test_the_new_one_gets_everything_and_says_when_it_serves(house: House) -> None:
    upgrade = house.start("serves")
    house.turn_until_over()
    assert upgrade.succeeded
    ((outcome, detail),) = house.answers
    assert (outcome["outcome"], outcome["pid"], outcome["error"], detail) == (
        "done", upgrade.pid, "", "")
    got = json.loads(house.report.read_text())
    http, unix = house.listeners
    assert got["listeners"] == [
        ["http", "127.0.0.1:0", http.url, False, 0, False, False],
        ["x", str(unix.address), unix.url, True, 0, False, False],
    ]
    assert (got["generation"], got["workers"], got["runtime"], got["systemd"]) == (
        8, 3, "/run/somewhere", True)
    assert got["directory"] == str(house.directory)


def test_the_old_ones_sockets_are_as_before(house: House) -> None:
    house.start("serves")
    house.turn_until_over()
    for listener in house.listeners:
        assert listener.fileno() >= 0
        assert not os.get_inheritable(listener.fileno())


def test_a_failure_is_answered_with_its_traceback(house: House) -> None:
    upgrade = house.start("fails")
    house.turn_until_over()
    assert upgrade.failed == "bind http: no"
    assert house.answers == [({"outcome": "failed", "error": "bind http: no"}, "Traceback")]
    assert not upgrade.is_open


def test_one_that_dies_without_a_word_has_failed(house: House) -> None:
    upgrade = house.start("dies")
    house.turn_until_over()
    assert upgrade.failed == "the new arbiter ended before it served"
    upgrade.on_exit(0)
    assert len(house.answers) == 1


def test_its_exit_may_be_seen_before_its_word(house: House) -> None:
    upgrade = house.start("fails")
    _, status = os.waitpid(upgrade.pid, 0)
    upgrade.on_exit(status)
    assert upgrade.failed == "bind http: no"


def test_one_that_does_not_serve_in_time_is_ended(house: House) -> None:
    upgrade = house.start("hangs")
    house.books.cfg.boot_timeout = 0.0
    upgrade.advance()
    assert upgrade.failed == "the new arbiter did not serve within 0 s"
    assert os.waitstatus_to_exitcode(os.waitpid(upgrade.pid, 0)[1]) == -signal.SIGTERM


def test_abandoned_it_ends(house: House) -> None:
    upgrade = house.start("hangs")
    upgrade.abandon()
    assert house.answers[0][0]["error"] == "the daemon stops"
    assert os.waitstatus_to_exitcode(os.waitpid(upgrade.pid, 0)[1]) == -signal.SIGTERM
    upgrade.abandon()
    assert len(house.answers) == 1


def test_it_takes_over_once_and_only_with_every_worker_ready() -> None:
    ours, theirs = socket.socketpair()
    facts = {"runtime": "/r", "systemd": False, "generation": 1, "channel": theirs.detach(),
             "listeners": [], "workers": 2}
    taken: list[str] = []
    books = Books(Mock())
    books.cfg = make_cfg()
    inheritance = Inheritance(facts, books, lambda: taken.append("over"))
    assert (books.generation, books.num_workers, books.taking_over) == (2, 2, True)
    workers: list[Any] = [SimpleNamespace(ready=True), SimpleNamespace(ready=False)]
    books.workers = dict(enumerate(workers))
    inheritance.advance()
    assert taken == []
    workers[1].ready = True
    inheritance.advance()
    inheritance.advance()
    assert taken == ["over"] and not books.taking_over
    inheritance.fail("too late to fail")
    ours.settimeout(5)
    assert b"serving" in ours.recv(1000)
    assert ours.recv(1000) == b""
    ours.close()


def test_a_pid_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    pidfile = replace_pidfile(SimpleNamespace(pidfile=str(path)), os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == ["pid"]
    pidfile.unlink()
    assert not path.exists()


def test_a_listener_keeps_its_name_and_kind(tmp_path: Path) -> None:
    (listener,) = open_listeners([("dns", parse_address("udp://127.0.0.1:0"), 0)], 16, {})
    copy = socket.socket(fileno=os.dup(listener.fileno()))
    again = Listener("dns", parse_address(str(listener.address)), copy, False)
    assert (again.kind, again.url) == ("datagram", listener.url)
    again.close()
    listener.close()


def test_the_variable_is_no_argument_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the new arbiter starts in turn, a console or a worker's child, must not see it."""
    monkeypatch.setenv(INHERITED, "")
    assert HostArbiter._inherit(Mock()) is None
    assert INHERITED not in os.environ
