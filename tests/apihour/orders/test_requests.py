"""What the arbiter does on request."""

from __future__ import annotations

import errno
import logging
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.limits.live import read_live
from apihour.orders.requesters import ControlRequest
from apihour.orders.requests import ArbiterCommands
from tests.apihour.fake_crew import Clock, FakeCrew


class Client:
    """Where answers go."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


class House:
    def __init__(self) -> None:
        self.crew = FakeCrew(Clock())
        for slot in (1, 2):
            self.crew.spawn(slot, 1, [], self.crew.books.cfg)
        self.asked: list[Any] = []
        self.refusal: str | None = None
        changes: Any = SimpleNamespace(
            request_reload=lambda waiter, canary: self.asked.append(waiter),
            request_rollback=self.asked.append, request_upgrade=self._upgrade)
        restarts: Any = SimpleNamespace(
            begin=self._note("restart"), tell=self._note("tell"))
        self.commands = ArbiterCommands(
            self.crew.books, self.crew, changes, restarts,  # type: ignore[arg-type]
            lambda sig: self.crew.signals.append(("arbiter", sig)))

    def _note(self, what: str) -> Any:
        return lambda *given: self.asked.append((what, *given))

    def _upgrade(self, waiter: Any) -> str | None:
        self.asked.append(waiter)
        return self.refusal

    def do(self, command: str, role: str = "admin", **arguments: Any) -> Any:
        """The answer, or None when it comes later."""
        self.client = Client()
        self.commands.dispatch(ControlRequest(
            self.client, 1, command, arguments, role))  # type: ignore[arg-type]
        assert len(self.client.messages) <= 1
        return self.client.messages[0] if self.client.messages else None

    def rows(self, command: str, **arguments: Any) -> Any:
        return self.do(command, **arguments)["result"]


def said(worker: Any) -> list[str]:
    """The commands that a worker was sent."""
    return [call.kwargs["command"] for call in worker.channel.send.call_args_list]


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(("command", "role"), [
    ("reload", "operator"), ("rollback", "operator"), ("scale", "operator"), ("drain", "operator"),
    ("undrain", "operator"), ("upgrade", "admin"), ("signal", "admin"),
    ("restart", "operator"), ("ban", "operator"), ("unban", "operator"),
    ("suspend", "admin"), ("resume", "admin"), ("limit", "admin"),
])
def test_roles_are_checked_here_again(house: House, command: str, role: str) -> None:
    below = {"operator": ["observer"], "admin": ["observer", "operator"]}[role]
    for less in [*below, "", "root", "Admin", "None"]:
        answer = house.do(command, less)
        assert answer["kind"] == "role", less
        assert answer["error"] == f"{command} needs the role {role}; yours is {less}"
    assert (house.asked, house.crew.signals) == ([], [])
    assert house.crew.books.operator_workers is None
    assert (house.do(command, role) or {}).get("kind") != "role"


def test_an_unknown_command_lists_the_known(house: House) -> None:
    answer = house.do("reboot")
    assert answer["kind"] == "unknown"
    assert "one of ban, drain, limit, records, reload, restart, resume" in answer["error"]


@pytest.mark.parametrize("command", ["reload", "rollback", "upgrade"])
def test_a_change_answers_when_it_is_through(house: House, command: str) -> None:
    assert house.do(command) is None
    house.asked[0]({"outcome": "done", "error": ""}, "")
    assert house.client.messages == [{"id": 1, "result": [{"outcome": "done", "error": ""}]}]


def test_a_change_that_fails_answers_with_the_traceback(house: House) -> None:
    house.do("reload")
    house.asked[0]({"outcome": "failed", "error": "hello.py:3"}, "Traceback")
    (answer,) = house.client.messages
    assert (answer["error"], answer["kind"], answer["detail"]) == (
        "reload failed: hello.py:3", "failed", "Traceback")


def test_a_refused_upgrade_answers_at_once(house: House) -> None:
    house.refusal = "this arbiter is PID 1"
    assert house.do("upgrade")["error"] == "upgrade refused: this arbiter is PID 1"


def test_scale(house: House) -> None:
    assert house.rows("scale", workers=5) == [{"workers": 5, "before": 2}]
    assert house.crew.books.operator_workers == 5
    assert house.rows("scale", workers="3") == [{"workers": 3, "before": 5}]


@pytest.mark.parametrize("count", [0, -1, 129, "many", None, [2], 2.5])
def test_scale_to_nonsense(house: House, count: Any) -> None:
    answer = house.do("scale", workers=count)
    assert answer["kind"] == "usage"
    assert answer["error"] == f"scale {count!r}: expected a number from 1 to 128"
    assert house.crew.books.operator_workers is None


def test_drain_and_undrain_tell_the_workers(house: House) -> None:
    house.crew.ready()
    assert house.rows("drain", yes=True) == [
        {"worker": "1.1", "state": "suspended"}, {"worker": "2.1", "state": "suspended"}]
    assert house.rows("undrain", worker="2") == [{"worker": "2.1", "state": "serving"}]
    one, two = house.crew.workers
    assert said(one) == ["suspend"]
    assert said(two) == ["suspend", "resume"]


def test_the_last_that_accepts_is_drained_on_demand_only(house: House) -> None:
    house.crew.ready()
    assert "expected --yes" in house.do("drain")["error"]
    assert house.rows("drain", worker="1")
    assert house.rows("drain", worker="1")  # nothing changes by it
    # A second operator, before the first worker has said that it is suspended.
    refused = house.do("drain", worker="2")
    assert refused["error"].startswith("drain 2.1: no other worker accepts connections")
    assert [said(one) for one in house.crew.workers] == [["suspend"] * 2, []]
    assert house.rows("drain", worker="2", yes=True)
    assert "no worker accepts connections now" in house.crew.log.lines[-1]
    assert house.rows("undrain", worker="1") and house.rows("drain", worker="2")


def test_a_worker_that_starts_is_no_reason_to_drain_the_last(house: House) -> None:
    house.crew.ready(lambda worker: worker.slot == 1)
    assert "expected --yes" in house.do("drain", worker="1")["error"]
    assert house.rows("drain", worker="2")


def test_restart_is_about_one_worker(house: House) -> None:
    assert house.do("restart", worker="2", within=3) is None
    [(what, worker, within, _)] = house.asked
    assert (what, worker.name, within) == ("restart", "2.1", 3.0)
    assert house.do("restart")["kind"] == "usage"
    assert house.do("restart", worker="9")["kind"] == "usage"


def test_bans(house: House, tmp_path: Any) -> None:
    house.crew.books.runtime = SimpleNamespace(bans=tmp_path / "bans.json")
    house.crew.books.cfg.uid, house.crew.books.cfg.gid = os.geteuid(), os.getegid()
    [row] = house.rows("ban", network="10.1.2.3/8", seconds=60, by="me")
    assert row["network"] == "10.0.0.0/8" and 59 < row["left"] <= 60
    for wrong in ({"network": "here"}, {"network": "10.0.0.7", "seconds": 0},
                  {"network": "10.0.0.7", "seconds": 1e12}, {"network": "::1", "seconds": "nan"},
                  {"network": "::1", "seconds": None}, {"network": "", "seconds": 60}):
        assert house.do("ban", **{"network": "10.0.0.7", **wrong})["error"].startswith("ban: ")
    assert "it is not banned" in house.do("unban", network="10.0.0.7")["error"]
    assert len(house.rows("unban", network="all")) == 1


def test_what_is_said_of_servers(
    house: House, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "limits.json"
    house.crew.books.runtime = SimpleNamespace(limits=path)
    house.crew.books.cfg.uid, house.crew.books.cfg.gid = os.geteuid(), os.getegid()
    assert house.rows("suspend", server="x", by="me", role="admin") == []
    assert house.rows("limit", server="x", by="you", options={"idle": "9"}, role="admin") == []
    [(name, order)] = read_live(path).items()
    assert (name, order.suspended, str(order.options), order.by) == ("x", True, "idle=9", "you")
    for wrong in ({"options": {"idle": "x"}}, {"options": 5}, {"reset": ["idel"]}, {"reset": 5}):
        answer = house.do("limit", "admin", server="x", **wrong)
        assert answer["error"].startswith("limit x: expected "), answer

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("apihour.ipc.state_files.json.dump", full)
        assert str(path) in house.do("resume", "admin", server="x")["error"]
    house.rows("resume", server="x", by="me", role="admin")
    house.rows("limit", server="x", by="me", reset=[], role="admin")
    assert read_live(path) == {}


@pytest.mark.parametrize("command", ["ban", "unban"])
def test_a_ban_that_cannot_be_written_names_the_place_and_a_cure(
    house: House, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    house.crew.books.runtime = SimpleNamespace(bans=tmp_path / "bans.json")
    house.crew.books.cfg.uid, house.crew.books.cfg.gid = os.geteuid(), os.getegid()
    house.rows("ban", network="10.0.0.7", seconds=60, by="me")

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("apihour.bind.ban_book.json.dump", full)
    assert house.do(command, network="10.0.0.7", seconds=60)["error"] == (
        f"{command}: {tmp_path}/bans.json: No space left on device; nothing has changed, expected "
        f"a file system with some kB free (df {tmp_path}), or a firewall's rule")


@pytest.mark.parametrize("by", [lambda w: w.name, lambda w: str(w.pid), lambda w: str(w.slot)])
def test_a_worker_goes_by_name_pid_or_slot(house: House, by: Any) -> None:
    house.crew.ready()
    worker = house.crew.workers[1]
    assert house.rows("drain", worker=by(worker)) == [{"worker": "2.1", "state": "suspended"}]


def test_no_such_worker_lists_those_there_are(house: House) -> None:
    for command in ("drain", "undrain"):
        answer = house.do(command, worker="9")
        assert (answer["kind"], answer["error"]) == (
            "usage", "worker '9': expected one of 1.1, 2.1")


def test_a_signal_to_the_arbiter(house: House) -> None:
    assert house.rows("signal", name="hup") == [{"process": "arbiter", "signal": "HUP"}]
    assert house.rows("signal", signal="SIGTTIN") == [{"process": "arbiter", "signal": "TTIN"}]
    assert house.crew.signals == [("arbiter", signal.SIGHUP), ("arbiter", signal.SIGTTIN)]


def test_a_signal_to_a_worker(house: House) -> None:
    worker = house.crew.workers[0]
    assert house.rows("signal", name="STOP", worker="1.1") == [
        {"process": "1.1", "signal": "STOP"}]
    assert house.do("signal", name="KILL", worker="1.1") is None
    assert house.crew.signals == [(worker.pid, signal.SIGSTOP), (worker.pid, signal.SIGKILL)]
    [(what, workers, rows, _)] = house.asked  # answered when another serves
    assert (what, workers, rows) == ("tell", [worker], [{"process": "1.1", "signal": "KILL"}])


@pytest.mark.parametrize(("name", "worker"), [
    ("KILL", None), ("STOP", None), ("SEGV", None), ("", None), ("HUP", "1"), ("9", "1"),
])
def test_signals_that_are_not_for_sending(house: House, name: str, worker: str | None) -> None:
    answer = house.do("signal", name=name, **({"worker": worker} if worker else {}))
    assert answer["kind"] == "usage"
    assert f"signal {name!r}: expected one of " in answer["error"]
    assert ("; with a WORKER one of TERM, " in answer["error"]) is (worker is None)
    assert house.crew.signals == []


def test_every_command_that_is_carried_out_is_logged_on_one_line(house: House) -> None:
    house.do("scale", workers="2\nFAKE LINE")
    house.do("drain", "observer")
    (line,) = house.crew.log.lines
    assert line.startswith("Command: scale workers=")
    assert "\n" not in line


def test_records_by_number_level_and_logger_for_observers_too() -> None:
    house = House()
    house.crew.books.pid = 99
    ring = house.crew.books.ring
    for level, text in ((logging.INFO, "one"), (logging.WARNING, "two"), (logging.INFO, "three")):
        ring.keep(logging.LogRecord("gunicorn.error", level, __file__, 1, text, (), None))
    pid = house.crew.books.pid

    def told(**arguments: Any) -> list[str]:
        rows = house.do("records", "observer", **arguments)["result"]
        assert all(row["pid"] == pid for row in rows)
        return [row["message"] for row in rows]

    assert told() == ["one", "two", "three"]
    assert told(after=2, pid=pid) == ["three"]
    assert told(after=2, pid=pid + 1) == ["one", "two", "three"], "it knows another arbiter"
    assert told(level=logging.WARNING) == ["two"]
    assert told(logger="gunicorn") == ["one", "two", "three"] and told(logger="shop") == []
    assert house.do("records", after="x", pid=pid)["kind"] == "usage"
    assert house.crew.log.lines == [], "looking is told in the log"


@pytest.mark.parametrize("canary", [-1, 129, "1", 0.5])
def test_a_number_of_canaries_that_is_none_is_refused(house: House, canary: object) -> None:
    answer = house.do("reload", canary=canary)
    assert answer["kind"] == "usage" and f"--canary {canary!r}: expected" in answer["error"]
    assert house.asked == []
