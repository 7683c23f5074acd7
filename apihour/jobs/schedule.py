"""When a job is due: every so long, or by a cron expression in a time zone.

Times are seconds since the epoch. A schedule is a pure function of them, so that every worker
comes to the same answer.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from apihour.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["Cron", "Every", "Schedule", "interval"]

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd]|$)")
_SHORTEST, _LONGEST = 0.1, 366 * 86400.0  # seconds


class Schedule(Protocol):
    """When something is due; `text` says it to people, and tells one schedule from another."""

    @property
    def text(self) -> str:
        """As the shell shows it."""

    @property
    def longest(self) -> float:
        """Seconds until the next time, at most."""

    def after(self, previous: float, now: float) -> float:
        """The first time after `now`, in step with `previous`; infinity when there is none."""


@dataclass(frozen=True)
class Every:
    """Every `seconds`, however long a run takes."""

    seconds: float
    text: str

    @property
    def longest(self) -> float:
        """See :attr:`Schedule.longest`."""
        return self.seconds

    def after(self, previous: float, now: float) -> float:
        """See :meth:`Schedule.after`."""
        if previous > now:  # the clock was set back, say
            return now + self.seconds
        steps = math.floor((now - previous) / self.seconds) + 1
        return max(previous + steps * self.seconds, math.nextafter(now, math.inf))


@dataclass(frozen=True)
class Cron:
    """By the five fields of crontab(5), or six with seconds before them, in a time zone.

    Where clocks are changed it is as with Debian's cron: what was left out runs at once, what
    comes twice runs once, and what says ``*`` goes by elapsed time.
    """

    expression: str
    zone: str = "UTC"

    @property
    def text(self) -> str:
        """The expression and its zone."""
        return f"{self.expression} {self.zone}"

    @property
    def longest(self) -> float:
        """No bound: what a time ahead means depends on which times have been."""
        return math.inf

    def after(self, previous: float, now: float) -> float:
        """See :meth:`Schedule.after`."""
        from datetime import datetime

        from cronsim import CronSim

        for found in CronSim(self.expression, datetime.fromtimestamp(now, _zone(self.zone))):
            if found.timestamp() > now:  # of an hour that comes twice it may say the first
                return found.timestamp()
        return math.inf

    def check(self) -> None:
        """Raise ConfigurationError when it cannot be read, or never comes."""
        try:
            from cronsim import CronSimError
        except ImportError as error:
            raise ConfigurationError(
                f"cron expression {self.expression!r}: needs cronsim: pip install cronsim"
            ) from error
        for what, text in (("cron expression", self.expression), ("time zone", self.zone)):
            if not isinstance(text, str):
                raise ConfigurationError(f"{what} {text!r:.100}: expected text: '0 3 * * *', in "
                                         "zone 'Europe/Brussels'")
        _zone(self.zone)
        try:
            never = self.after(0.0, time.time()) == math.inf
        except CronSimError as error:
            raise ConfigurationError(
                f"cron expression {self.expression!r}: {error}; expected minute, hour, day of the "
                "month, month and day of the week: '0 3 * * *'") from error
        if never:
            raise ConfigurationError(
                f"cron expression {self.expression!r}: no such time in the next 50 years")


def _zone(name: str) -> tzinfo:
    import zoneinfo  # not by everybody who imports apihour: it takes milliseconds
    from datetime import UTC

    if name == "UTC":  # without a database of time zones, too
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"time zone {name!r}: unknown here; expected UTC or a name like Europe/Brussels, with "
            "the system's tzdata or the package tzdata") from error


def interval(given: str | float) -> Every:
    """What ``"90s"``, ``"5m"``, ``"1h30m"``, or a number of seconds says.

    Raises ConfigurationError.
    """
    seconds = _seconds(given)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ConfigurationError(
            f"interval {given!r}; expected 0.1 s to 366 days, as '30s', '5m', '1h30m', '1d' or "
            "seconds")
    return Every(seconds, given if isinstance(given, str) else f"{given:g}s")


def _seconds(given: str | float) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    parts = list(_PART.finditer(given)) if isinstance(given, str) else []
    if not parts or "".join(part[0] for part in parts) != given:
        return math.nan
    return sum(float(number) * _UNITS[unit] for number, unit in (part.groups() for part in parts))
