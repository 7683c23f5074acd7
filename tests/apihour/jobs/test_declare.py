"""Declaring jobs: what is taken, and what is refused with the method's name."""

from __future__ import annotations

from typing import Any

import pytest

import apihour
from apihour.errors import ConfigurationError
from apihour.jobs import see_jobs
from apihour.jobs.container_jobs import check_jobs


class Sweeping:
    """Jobs may come from a class beside."""

    @apihour.every("1m")
    async def sweep(self) -> str:
        return "swept"


class Container(Sweeping, apihour.Container):
    @apihour.cron("0 3 * * *", zone="Europe/Brussels", misfire="once", overlap="queue",
                  drain="move")
    async def report(self, run: apihour.JobRun) -> None: ...

    async def plain(self) -> None: ...


async def test_jobs_of_a_container_and_its_bases() -> None:
    jobs = see_jobs(Container())
    assert sorted(jobs) == ["report", "sweep"]
    report, sweep = jobs["report"], jobs["sweep"]
    assert (report.misfire, report.overlap, report.drain) == ("once", "queue", "move")
    assert (sweep.misfire, sweep.overlap, sweep.drain) == ("skip", "skip", "wait")
    assert report.takes_run and not sweep.takes_run
    assert await sweep.function() == "swept"
    assert see_jobs(apihour.Container()) == {}


def test_a_plain_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"plain.*expected an async method"):
        @apihour.every("1m")
        def plain(self: Any) -> None: ...


@pytest.mark.parametrize(("option", "message"), [
    ({"misfire": "all"}, "misfire 'all'; expected skip or once"),
    ({"overlap": True}, "overlap True; expected skip or queue"),
    ({"drain": "no"}, "drain 'no'; expected wait or move"),
])
def test_a_wrong_option_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^job .*job: {message}$"):
        @apihour.every("1m", **option)
        async def job(self: Any) -> None: ...


def test_two_schedules_of_one_method_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="has a schedule already"):
        @apihour.every("1m")
        @apihour.every("2m")
        async def job(self: Any) -> None: ...


async def test_one_that_wants_more_than_its_run_is_refused() -> None:
    class Wrong(apihour.Container):
        @apihour.every("1m")
        async def job(self, run: Any, more: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Wrong.job cannot be called: .*'more'"):
        see_jobs(Wrong())


@pytest.mark.parametrize(("options", "message"), [
    ({"lease": 0.5}, "jobs: lease: 0.5; expected 1 to 3600 seconds"),
    ({"lease": "10"}, "jobs: lease: '10'; expected"),
    ({"leese": 3}, "jobs: {'leese': 3}; expected lease: SECONDS"),
    ([1], r"jobs: \[1\]; expected"),
])
async def test_configuration_that_is_wrong_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_jobs(apihour.Container({"jobs": options}))
    assert check_jobs(apihour.Container({"jobs": {"lease": 3}})) == 3.0
    assert check_jobs(apihour.Container()) == 10.0
