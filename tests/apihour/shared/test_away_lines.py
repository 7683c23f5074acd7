"""What is logged of a store that goes and comes."""

from __future__ import annotations

import pytest

from apihour.shared import away_lines
from apihour.shared.away_lines import AwayLines


class Clock:
    """A clock that is set."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(away_lines, "time", clock)
    return clock


def test_once_away_and_once_back_are_said_at_once(clock: Clock) -> None:
    lines = AwayLines()
    assert [lines.line(""), lines.line("no answer"), lines.line("refused"), lines.line(""),
            lines.line("")] == ["", "away: no answer", "", "answers again", ""]


def test_what_goes_and_comes_ten_times_a_second_is_said_twice_in_ten_seconds(clock: Clock) -> None:
    lines, said = AwayLines(), []
    for turn in range(600):  # of a minute
        clock.now += 0.1
        said.append(lines.line("no leader" if turn % 2 == 0 else ""))
    told = [line for line in said if line]
    assert told[:2] == ["away: no leader", "answers again"]
    assert 8 <= len(told) <= 14
    assert told[2].startswith("away: no leader; it went and came ")
    assert told[2].endswith(" times since this was last said")
    assert told[3] == "answers again"


@pytest.mark.parametrize("last", ["", "no leader"])
def test_how_it_is_in_the_end_is_said_though_it_was_quiet(clock: Clock, last: str) -> None:
    lines, said = AwayLines(), []
    for turn in range(60):
        clock.now += 0.1
        said.append(lines.line("no leader" if turn % 2 == 0 else ""))
    for _ in range(150):
        clock.now += 0.1
        said.append(lines.line(last))
    assert [line for line in said if line][-1].startswith("away" if last else "answers again")
    assert lines.is_away is bool(last)
