"""When something is due: intervals, cron expressions, time zones and the days clocks change."""

from __future__ import annotations

import math
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from apihour.errors import ConfigurationError
from apihour.jobs.schedule import Cron, Every, interval

BRUSSELS = "Europe/Brussels"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    """Seconds since the epoch of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(("given", "seconds"), [
    ("90s", 90), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("1d", 86400),
    ("45", 45), (45, 45), (0.5, 0.5),
])
def test_intervals(given: str | float, seconds: float) -> None:
    assert interval(given).seconds == seconds
    assert interval(given).text in (given, f"{given}s")


@pytest.mark.parametrize("given", [
    "", "5 m", "m5", "-5m", "5x", "0s", 0, -1, "10ms", "400d", math.nan, math.inf, True, None,
    "5m!",
])
def test_what_is_no_interval_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^interval .*expected 0.1 s to 366 days"):
        interval(given)


def test_every_stays_in_step_and_skips_what_has_passed() -> None:
    every = Every(300, "5m")
    assert every.after(1000.0, 1000.0) == 1300.0
    assert every.after(1300.0, 1301.7) == 1600.0
    assert every.after(1300.0, 2500.1) == 2800.0  # in step with the first
    assert every.after(9000.0, 1000.0) == 1300.0  # the clock was set back


def test_every_always_comes_after_now() -> None:
    every = Every(0.1, "0.1")
    now = previous = 1_700_000_000.123
    for _ in range(1000):
        found = every.after(previous, now)
        assert found > now
        now = previous = found


@pytest.mark.parametrize(("expression", "zone", "now", "then"), [
    ("0 3 * * *", "UTC", at("2026-05-01T03:00"), at("2026-05-02T03:00")),
    ("0 3 * * *", "UTC", at("2026-05-01T02:59:59"), at("2026-05-01T03:00")),
    ("0 3 * * *", BRUSSELS, at("2026-05-01T00:00"), at("2026-05-01T01:00")),
    ("*/15 * * * *", BRUSSELS, at("2026-05-01T00:01"), at("2026-05-01T00:15")),
    ("30 0 * * * *", "UTC", at("2026-05-01T00:00:00"), at("2026-05-01T00:00:30")),  # seconds
    ("0 0 29 2 *", "UTC", at("2026-05-01T00:00"), at("2028-02-29T00:00")),
    ("0 9 * * mon-fri", "UTC", at("2026-05-01T09:00"), at("2026-05-04T09:00")),
    # Clocks go forward at 2: what was left out runs at once.
    ("30 2 * * *", BRUSSELS, at("2026-03-29T00:00", BRUSSELS), at("2026-03-29T03:00", BRUSSELS)),
    # Clocks go back at 3: once, the first time.
    ("30 2 * * *", BRUSSELS, at("2026-10-25T00:00", BRUSSELS), at("2026-10-25T02:30", BRUSSELS)),
    ("30 2 * * *", BRUSSELS, at("2026-10-25T02:30", BRUSSELS), at("2026-10-26T02:30", BRUSSELS)),
    ("30 2 * * *", BRUSSELS, at("2026-10-25T02:15", BRUSSELS, 1),
     at("2026-10-26T02:30", BRUSSELS)),
    # What says * goes by elapsed time.
    ("30 * * * *", BRUSSELS, at("2026-10-25T02:30", BRUSSELS),
     at("2026-10-25T02:30", BRUSSELS, 1)),
])
def test_cron(expression: str, zone: str, now: float, then: float) -> None:
    cron = Cron(expression, zone)
    cron.check()
    assert cron.after(0.0, now) == then
    assert cron.text == f"{expression} {zone}"


@pytest.mark.parametrize(("expression", "zone", "message"), [
    ("0 3 * *", "UTC", "Wrong number of fields; expected minute, hour"),
    ("0 25 * * *", "UTC", "Bad hour; expected"),
    ("0 0 31 2 *", "UTC", "Bad day-of-month; expected"),
    ("@daily", "UTC", "expected minute, hour"),
    ("0 3 * * *", "Europe/Atlantis", "time zone 'Europe/Atlantis': unknown here; expected UTC"),
    ("0 3 * * *", "../../etc/passwd", "time zone"),
    ("0 3 * * *", "", "time zone ''"),
    ("0 3 * * *", None, "time zone None: expected text"),
    (None, "UTC", "cron expression None: expected text"),
    (b"0 3 * * *", "UTC", "expected text: '0 3"),
])
def test_what_cannot_be_read_is_refused_in_one_line(
    expression: str, zone: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Cron(expression, zone).check()


def test_without_its_library_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ConfigurationError, match="needs cronsim: pip install cronsim"):
        Cron("0 3 * * *").check()
