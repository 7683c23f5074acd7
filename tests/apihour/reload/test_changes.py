"""Reloads and upgrades under way, and who hears how they ended."""

from __future__ import annotations

import errno
from typing import Any
from unittest.mock import Mock

import pytest

from apihour.errors import ApihourError
from apihour.ipc.scoreboard import Figure
from apihour.reload import changes as module
from apihour.reload.changes import Changes
from apihour.reload.reload import Phase
from tests.apihour.fake_crew import Clock, FakeCrew


class FakeReload:
    """Over when the test says so."""

    made: list[Any]

    def __init__(
        self, books: Any, *parts: Any, canary: int | None = None, release: str = ""
    ) -> None:
        self.canary, self.release, self.has_replaced = canary, release, False
        self.generation = 2
        self.phase = Phase.STARTING
        self.error = self.detail = ""
        self.probe = None
        self.made.append(self)

    def start(self) -> None: ...

    @property
    def is_over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED)

    def advance(self) -> None: ...

    def fail(self, error: str, detail: str = "") -> None:
        self.phase, self.error, self.detail = Phase.FAILED, error, detail

    def outcome(self) -> dict[str, Any]:
        return {"outcome": self.phase.value, "workers": 2, "seconds": 0.5, "error": self.error}


class FakeUpgrade:
    """Decided when the test says so."""

    made: list[Any]

    def __init__(self, books: Any, waiter: Any) -> None:
        self.pid = 77
        self.succeeded = False
        self.failed: str | None = None
        self.is_open = True
        self.did: list[Any] = []
        self.made.append(self)

    def start(self) -> None: ...

    def advance(self) -> None: ...

    def fileno(self) -> int:
        return 99

    def on_exit(self, status: int) -> None:
        self.did.append(("exit", status))

    def abandon(self) -> None:
        self.did.append("abandon")

    def close(self) -> None:
        self.did.append("close")


class House(FakeCrew):
    def __init__(self) -> None:
        super().__init__(Clock())
        self.made: list[Any] = []
        self.books.pid = 4242
        self.changes = Changes(self.books, *[Mock()] * 4)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(module, "Reload", FakeReload)
    monkeypatch.setattr(module, "Upgrade", FakeUpgrade)
    made = House()
    monkeypatch.setattr(FakeReload, "made", made.made, raising=False)
    monkeypatch.setattr(FakeUpgrade, "made", made.made, raising=False)
    return made


class Waiting:
    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], str]] = []

    def __call__(self, outcome: dict[str, Any], detail: str) -> None:
        self.heard.append((outcome, detail))


def test_whoever_asked_hears_of_success(house: House) -> None:
    waiting = Waiting()
    house.changes.request_reload(waiting)
    house.changes.advance()
    assert (waiting.heard, house.changes.is_busy()) == ([], True)
    house.made[0].phase = Phase.DONE
    house.changes.advance()
    ((outcome, _),) = waiting.heard
    assert outcome["outcome"] == "done"
    assert not house.changes.is_busy()
    assert house.counted == [Figure.RELOADS]


def test_whoever_asked_hears_of_failure_with_the_traceback(house: House) -> None:
    waiting = Waiting()
    house.changes.request_reload(waiting)
    house.made[0].fail("hello.py:3: broken", "Traceback\n")
    house.changes.advance()
    ((outcome, detail),) = waiting.heard
    assert (outcome["outcome"], outcome["error"], detail) == (
        "failed", "hello.py:3: broken", "Traceback\n")
    assert house.counted == [Figure.RELOADS_FAILED]
    assert house.log.lines == [
        "Reload refused, the old workers stay: hello.py:3: broken", "Traceback"]


def test_requests_during_a_reload_become_one_more(house: House) -> None:
    first, second, third = Waiting(), Waiting(), Waiting()
    house.changes.request_reload(first)
    house.changes.request_reload(second)
    house.changes.request_reload(third)
    house.changes.request_reload(None)
    assert len(house.made) == 1
    house.made[0].phase = Phase.DONE
    house.changes.advance()
    assert (len(first.heard), second.heard, len(house.made)) == (1, [], 2)
    house.made[1].phase = Phase.DONE
    house.changes.advance()
    assert (len(second.heard), len(third.heard), len(house.made)) == (1, 1, 2)


def test_an_upgrade_and_a_reload_exclude_each_other(house: House) -> None:
    waiting = Waiting()
    assert house.changes.request_upgrade(None) is None
    house.changes.request_reload(waiting)
    assert waiting.heard == [({"outcome": "failed", "error": "an upgrade is under way"}, "")]
    assert house.changes.request_upgrade(None) == "an upgrade is under way already"
    house.made[0].failed = "it ended"
    house.changes.advance()
    assert house.log.lines == ["Upgrade failed, this arbiter stays: it ended"]
    house.changes.request_reload(None)
    assert house.changes.request_upgrade(None) == "a reload is under way"


def test_an_upgrade_is_refused_as_pid_1(house: House) -> None:
    house.books.pid = 1
    refusal = house.changes.request_upgrade(None)
    assert refusal is not None and "PID 1" in refusal
    assert house.made == []


def test_an_upgrade_is_refused_while_taking_over(house: House) -> None:
    house.books.taking_over = True
    refusal = house.changes.request_upgrade(None)
    assert refusal is not None and "taking over" in refusal


def test_after_a_handover_this_arbiter_leaves(house: House) -> None:
    house.changes.request_upgrade(None)
    assert list(house.changes.watched()) == [99]
    house.made[0].succeeded = True
    house.changes.advance()
    assert house.log.lines == ["Upgrade done: arbiter 77 serves, this one leaves"]
    house.changes.stop()
    assert house.made[0].did == []


def test_the_new_arbiters_exit_is_told_apart(house: House) -> None:
    assert not house.changes.on_exit(77, 9)
    house.changes.request_upgrade(None)
    assert not house.changes.on_exit(78, 9)
    assert house.changes.on_exit(77, 9)
    assert house.made[0].did == [("exit", 9)]


def test_told_to_stop_everybody_hears(house: House) -> None:
    first, second = Waiting(), Waiting()
    house.changes.request_reload(first)
    house.changes.request_reload(second)
    house.books.stopping = True
    house.changes.stop()
    assert [waiting.heard[0][0]["error"] for waiting in (first, second)] == ["the daemon stops"] * 2
    late = Waiting()
    house.changes.request_reload(late)
    assert late.heard[0][0]["error"] == "the daemon stops"
    assert house.changes.request_upgrade(None) == "the daemon stops"


def test_told_to_stop_an_upgrade_is_abandoned(house: House) -> None:
    house.changes.request_upgrade(None)
    house.changes.stop()
    house.changes.shed()
    assert house.made[0].did == ["abandon", "close"]


@pytest.mark.parametrize("what", ["Reload", "Upgrade"])
def test_no_process_is_an_answer(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(module, what, fail)
    waiting = Waiting()
    if what == "Reload":
        house.changes.request_reload(waiting)
        assert "no more processes" in waiting.heard[0][0]["error"]
    else:
        refusal = house.changes.request_upgrade(waiting)
        assert refusal is not None and "no more processes" in refusal
    assert not house.changes.is_busy()


def test_of_reloads_that_become_one_the_most_cautious_wish_counts(house: House) -> None:
    house.changes.request_reload(None, 1)
    for canary in (None, 1, 3, None):
        house.changes.request_reload(None, canary)
    house.made[0].phase = Phase.DONE
    house.changes.advance()
    house.made[1].phase = Phase.DONE
    house.changes.request_reload(None)
    house.changes.advance()
    assert [one.canary for one in house.made] == [1, 3, None]


def test_a_rollback_is_a_reload_of_the_release_before(house: House) -> None:
    told: list[Any] = []
    house.changes.request_rollback(lambda *outcome: told.append(outcome))
    (reload,) = house.made
    assert (reload.release, reload.canary) == ("/", 0)
    with pytest.raises(ApihourError, match="one to '/' is under way"):
        house.changes.request_rollback(lambda *outcome: None)
    reload.phase = Phase.DONE
    house.changes.advance()
    assert told[0][0]["outcome"] == "done"


def test_a_rollback_ends_the_reload_under_way_and_those_that_wait(house: House) -> None:
    told: dict[str, Any] = {}
    house.changes.request_reload(lambda *outcome: told.update(first=outcome[0]))
    house.changes.request_reload(lambda *outcome: told.update(second=outcome[0]))
    house.changes.request_rollback(lambda *outcome: told.update(back=outcome[0]))
    assert house.books.reload is None and len(house.made) == 1
    assert told["first"]["error"] == told["second"]["error"] == "ended by a rollback"
    assert (told["back"]["outcome"], told["back"]["release"]) == ("done", "/1")


def test_a_rollback_waits_for_no_upgrade_and_no_half_done_reload(house: House) -> None:
    house.changes.request_reload(None)
    house.made[0].has_replaced = True
    with pytest.raises(ApihourError, match="has replaced workers"):
        house.changes.request_rollback(lambda *outcome: None)
    house.made[0].phase = Phase.DONE
    house.changes.advance()
    house.changes.request_upgrade(None)
    with pytest.raises(ApihourError, match="an upgrade is under way"):
        house.changes.request_rollback(lambda *outcome: None)
