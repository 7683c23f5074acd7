"""Reloads and upgrades under way, and who hears how they ended."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from apihour.arbiter import changes as module
from apihour.arbiter.changes import Changes, Leave
from apihour.arbiter.reload import Phase
from apihour.errors import ApihourError
from apihour.ipc.scoreboard import Figure
from tests.apihour.fake_arbiter import Clock, FakeArbiter


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


class Arbiter(FakeArbiter):
    def __init__(self) -> None:
        super().__init__(Clock())
        self.made: list[Any] = []
        self.books.pid = 4242
        self.changes = Changes(self.books, *[self] * 4)


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> Arbiter:
    monkeypatch.setattr(module, "Reload", FakeReload)
    monkeypatch.setattr(module, "Upgrade", FakeUpgrade)
    made = Arbiter()
    monkeypatch.setattr(FakeReload, "made", made.made, raising=False)
    monkeypatch.setattr(FakeUpgrade, "made", made.made, raising=False)
    return made


class Waiting:
    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], str]] = []

    def __call__(self, outcome: dict[str, Any], detail: str) -> None:
        self.heard.append((outcome, detail))


def test_whoever_asked_hears_of_success(arbiter: Arbiter) -> None:
    waiting = Waiting()
    arbiter.changes.request_reload(waiting)
    arbiter.changes.advance()
    assert (waiting.heard, arbiter.changes.are_under_way()) == ([], True)
    arbiter.made[0].phase = Phase.DONE
    arbiter.changes.advance()
    ((outcome, _),) = waiting.heard
    assert outcome["outcome"] == "done"
    assert not arbiter.changes.are_under_way()
    assert arbiter.counted == [Figure.RELOADS]


def test_whoever_asked_hears_of_failure_with_the_traceback(arbiter: Arbiter) -> None:
    waiting = Waiting()
    arbiter.changes.request_reload(waiting)
    arbiter.made[0].fail("hello.py:3: broken", "Traceback\n")
    arbiter.changes.advance()
    ((outcome, detail),) = waiting.heard
    assert (outcome["outcome"], outcome["error"], detail) == (
        "failed", "hello.py:3: broken", "Traceback\n")
    assert arbiter.counted == [Figure.RELOADS_FAILED]
    assert arbiter.log.lines == [
        "Reload refused, the old workers stay: hello.py:3: broken", "Traceback"]


def test_requests_during_a_reload_become_one_more(arbiter: Arbiter) -> None:
    first, second, third = Waiting(), Waiting(), Waiting()
    arbiter.changes.request_reload(first)
    arbiter.changes.request_reload(second)
    arbiter.changes.request_reload(third)
    arbiter.changes.request_reload(None)
    assert len(arbiter.made) == 1
    arbiter.made[0].phase = Phase.DONE
    arbiter.changes.advance()
    assert (len(first.heard), second.heard, len(arbiter.made)) == (1, [], 2)
    arbiter.made[1].phase = Phase.DONE
    arbiter.changes.advance()
    assert (len(second.heard), len(third.heard), len(arbiter.made)) == (1, 1, 2)


def test_an_upgrade_and_a_reload_exclude_each_other(arbiter: Arbiter) -> None:
    waiting = Waiting()
    assert arbiter.changes.request_upgrade(None) is None
    arbiter.changes.request_reload(waiting)
    assert waiting.heard == [({"outcome": "failed", "error": "an upgrade is under way"}, "")]
    assert arbiter.changes.request_upgrade(None) == "an upgrade is under way already"
    arbiter.made[0].failed = "it ended"
    arbiter.changes.advance()
    assert arbiter.log.lines == ["Upgrade failed, this arbiter stays: it ended"]
    arbiter.changes.request_reload(None)
    assert arbiter.changes.request_upgrade(None) == "a reload is under way"


def test_an_upgrade_is_refused_as_pid_1(arbiter: Arbiter) -> None:
    arbiter.books.pid = 1
    refusal = arbiter.changes.request_upgrade(None)
    assert refusal is not None and "PID 1" in refusal
    assert arbiter.made == []


def test_an_upgrade_is_refused_while_taking_over(arbiter: Arbiter) -> None:
    arbiter.books.taking_over = True
    refusal = arbiter.changes.request_upgrade(None)
    assert refusal is not None and "taking over" in refusal


def test_after_a_handover_this_arbiter_leaves(arbiter: Arbiter) -> None:
    arbiter.changes.request_upgrade(None)
    assert arbiter.changes.descriptors() == [99]
    assert not arbiter.changes.has_handed_over()
    arbiter.made[0].succeeded = True
    assert arbiter.changes.has_handed_over()
    with pytest.raises(Leave):
        arbiter.changes.advance()


def test_the_new_arbiters_exit_is_told_apart(arbiter: Arbiter) -> None:
    assert not arbiter.changes.on_exit(77, 9)
    arbiter.changes.request_upgrade(None)
    assert not arbiter.changes.on_exit(78, 9)
    assert arbiter.changes.on_exit(77, 9)
    assert arbiter.made[0].did == [("exit", 9)]


def test_told_to_stop_everybody_hears(arbiter: Arbiter) -> None:
    first, second = Waiting(), Waiting()
    arbiter.changes.request_reload(first)
    arbiter.changes.request_reload(second)
    arbiter.books.stopping = True
    arbiter.changes.abandon()
    assert [waiting.heard[0][0]["error"] for waiting in (first, second)] == ["the daemon stops"] * 2
    late = Waiting()
    arbiter.changes.request_reload(late)
    assert late.heard[0][0]["error"] == "the daemon stops"
    assert arbiter.changes.request_upgrade(None) == "the daemon stops"


def test_told_to_stop_an_upgrade_is_abandoned(arbiter: Arbiter) -> None:
    arbiter.changes.request_upgrade(None)
    arbiter.changes.abandon()
    arbiter.changes.shed()
    assert arbiter.made[0].did == ["abandon", "close"]


@pytest.mark.parametrize("what", ["Reload", "Upgrade"])
def test_no_process_is_an_answer(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(module, what, fail)
    waiting = Waiting()
    if what == "Reload":
        arbiter.changes.request_reload(waiting)
        assert "no more processes" in waiting.heard[0][0]["error"]
    else:
        refusal = arbiter.changes.request_upgrade(waiting)
        assert refusal is not None and "no more processes" in refusal
    assert not arbiter.changes.are_under_way()


def test_of_reloads_that_become_one_the_most_cautious_wish_counts(arbiter: Arbiter) -> None:
    arbiter.changes.request_reload(None, 1)
    for canary in (None, 1, 3, None):
        arbiter.changes.request_reload(None, canary)
    arbiter.made[0].phase = Phase.DONE
    arbiter.changes.advance()
    arbiter.made[1].phase = Phase.DONE
    arbiter.changes.request_reload(None)
    arbiter.changes.advance()
    assert [one.canary for one in arbiter.made] == [1, 3, None]


def test_a_rollback_is_a_reload_of_the_release_before(arbiter: Arbiter) -> None:
    told: list[Any] = []
    arbiter.changes.request_rollback(lambda *outcome: told.append(outcome))
    (reload,) = arbiter.made
    assert (reload.release, reload.canary) == ("/", 0)
    with pytest.raises(ApihourError, match="one to '/' is under way"):
        arbiter.changes.request_rollback(lambda *outcome: None)
    reload.phase = Phase.DONE
    arbiter.changes.advance()
    assert told[0][0]["outcome"] == "done"


def test_a_rollback_ends_the_reload_under_way_and_those_that_wait(arbiter: Arbiter) -> None:
    told: dict[str, Any] = {}
    arbiter.changes.request_reload(lambda *outcome: told.update(first=outcome[0]))
    arbiter.changes.request_reload(lambda *outcome: told.update(second=outcome[0]))
    arbiter.changes.request_rollback(lambda *outcome: told.update(back=outcome[0]))
    assert arbiter.books.reload is None and len(arbiter.made) == 1
    assert told["first"]["error"] == told["second"]["error"] == "ended by a rollback"
    assert (told["back"]["outcome"], told["back"]["release"]) == ("done", "/1")


def test_a_rollback_waits_for_no_upgrade_and_no_half_done_reload(arbiter: Arbiter) -> None:
    arbiter.changes.request_reload(None)
    arbiter.made[0].has_replaced = True
    with pytest.raises(ApihourError, match="has replaced workers"):
        arbiter.changes.request_rollback(lambda *outcome: None)
    arbiter.made[0].phase = Phase.DONE
    arbiter.changes.advance()
    arbiter.changes.request_upgrade(None)
    with pytest.raises(ApihourError, match="an upgrade is under way"):
        arbiter.changes.request_rollback(lambda *outcome: None)
