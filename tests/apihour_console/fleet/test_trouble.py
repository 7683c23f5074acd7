"""What health tells of beside readiness: from counters and file systems, without a daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import BoardRow, Figure, Scoreboard, WorkerState
from apihour_console.commands.certs import Certificate, expiring
from apihour_console.fleet.census import Census
from apihour_console.fleet.trouble import Disk, Lately, Recent, disks, troubles


class House:
    """A scoreboard with a worker or two, and what is said of it."""

    def __init__(self, path: Path) -> None:
        runtime = Runtime(path)
        self.board = Scoreboard.create(str(runtime.scoreboard(os.getpid())))
        self.board.set_figure(Figure.WANTED, 2)
        self.census = Census(runtime)
        self.recent = Recent()
        self.rows = [self.worker(slot) for slot in (1, 2)]

    def worker(self, slot: int) -> BoardRow:
        row = self.board.claim(slot, 1)
        row.pid, row.state, row.accepting = os.getpid() if slot == 1 else os.getppid(), \
            WorkerState.SERVING, 1.0
        return row

    def note(self, now: float) -> None:
        self.recent.note(now, self.census.workers(), self.census.daemons())

    def wrong(self, found: list[Disk] | None = None) -> dict[str, str]:
        """What is not ok, and its detail."""
        rows = troubles(self.census.workers(), self.census.daemons(), self.recent,
                        found or [])
        return {row.name: row.detail for row in rows if row.status != "ok"}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_nothing_is_wrong_at_first(house: House) -> None:
    house.rows[0].errors = house.rows[0].requests = 100.0  # long ago, for all that is known
    house.note(0.0)
    assert house.wrong() == {}


@pytest.mark.parametrize(("requests", "errors", "is_wrong"), [
    (10, 10, True), (1000, 101, True), (1000, 100, False), (4, 4, False), (0, 0, False)])
def test_failing_answers_of_both_workers(
    house: House, requests: int, errors: int, is_wrong: bool
) -> None:
    house.note(0.0)
    house.rows[0].requests, house.rows[1].errors = float(requests), float(errors)
    house.note(1.0)
    assert ("answers" in house.wrong()) is is_wrong
    if is_wrong:
        assert house.wrong()["answers"].startswith(f"{errors} of {requests} requests")
    for second in range(2, 70):
        house.note(float(second))
    assert house.wrong() == {}  # a minute later it is over


def test_a_bad_deploy_shows_at_once_whatever_was_answered_before(house: House) -> None:
    for second in range(61):
        house.rows[0].requests += 10_000
        house.note(float(second))
    for second in range(61, 72):
        house.rows[0].requests += 100
        house.rows[0].errors += 100
        house.note(float(second))
        if second == 62:
            assert house.wrong() == {}, "of the last ten seconds"
    assert house.wrong() == {"answers": "1000 of 1000 requests of the last 10 s got a 5xx"}


def test_few_failing_answers_show_by_the_minute(house: House) -> None:
    for second in range(60):
        house.rows[0].requests += 1
        house.rows[0].errors += second % 10 == 0
        house.note(float(second))
    assert house.wrong() == {}
    house.rows[0].errors += 2
    house.note(60.0)
    assert house.wrong()["answers"] == "7 of 59 requests of the last minute got a 5xx"


def test_a_worker_that_leaves_takes_nothing_with_it_and_a_new_one_counts_from_nought(
    house: House
) -> None:
    house.note(0.0)
    house.rows[0].requests, house.rows[0].errors = 50.0, 50.0
    house.note(1.0)
    house.rows[0].clear()
    house.worker(3).requests = 7.0
    house.note(2.0)
    assert house.recent.lately() == Lately(requests=57, errors=50)


def test_lost_lines_of_a_worker_and_of_the_arbiter(house: House) -> None:
    house.note(0.0)
    house.rows[1].lost_lines = 3.0
    house.board.set_figure(Figure.LOST_LINES, 4.0)
    house.note(1.0)
    assert house.wrong()["log"].startswith("7 lines")


def test_workers_stuck_and_missing(house: House) -> None:
    house.rows[0].heartbeat -= 100
    assert house.wrong()["1.1"].startswith("stuck")
    house.rows[0].state = WorkerState.DRAINING
    assert house.wrong()["workers"] == "1 of 2 wanted"
    house.worker(3).state = WorkerState.STARTING
    assert "workers" not in house.wrong()


def test_disks_that_are_full_or_not_there(house: House, tmp_path: Path) -> None:
    (real,) = disks({"the log": str(tmp_path), "gone": str(tmp_path / "gone")})
    assert 0 < real.free <= real.size
    assert house.wrong([Disk("x", "/x", 100_000, 10_000_000)]) == {}
    full = Disk("the log", "/var", 9_999, 1_000_000)
    assert house.wrong([full]) == {"disk of the log": "/var: 9.8K free of 976.6K"}
    nothing = Disk("the log", "/var", 0, 65_536)
    assert house.wrong([nothing]) == {"disk of the log": "/var: 0 free of 64.0K"}


def test_a_small_file_system_that_is_nearly_full_is_full(house: House) -> None:
    """Of a small one a hundredth is less than one entry of the audit log."""
    assert house.wrong([Disk("audit log and keys", "/keys", 4096, 65_536)]) == {
        "disk of audit log and keys": "/keys: 4.0K free of 64.0K"}
    assert "disk of the log" in house.wrong([Disk("the log", "/log", 12_288, 921_600)])
    assert house.wrong([Disk("x", "/x", 32_768, 65_536)]) == {}


def test_a_file_system_without_a_size_tells_nothing() -> None:
    assert not Disk("x", "/proc", 0, 0).is_full


@pytest.mark.parametrize(("left", "status", "said"), [
    (14.0, "ok", "14.0 days left"), (13.9, "not ok", "13.9 days left; one that is renewed"),
    (-1.0, "not ok", "expired at then; one that is renewed")])
def test_a_certificate_that_expires_soon(left: float, status: str, said: str) -> None:
    (row,) = expiring([
        Certificate("http", "x:443", "a.test", left, left < 14, "then", "ca", "a.test", 2,
                    "SHA256:x", "a", ""),
        Certificate("http", "y:443", "", None, False, "", "", "", 2, "", "", "cannot be told")])
    assert (row.name, row.status) == ("certificate of http", status)
    assert row.detail.startswith(f"x:443 a.test: {said}")
