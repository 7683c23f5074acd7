"""The pytest plugin: fixtures that start daemons and end every process of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apihour.testing.daemon import Daemon

__all__ = ["apihour_daemon", "apihour_module_daemon", "pytest_runtest_makereport"]

_LINES = 200  # of a daemon's log, shown with a failed test


def _start_daemons() -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start(target: str, *options: str, wait: bool = True, **keywords: Any) -> Daemon:
        daemon = Daemon(target, *options, **keywords)
        started.append(daemon)
        return daemon.start(wait)

    start.daemons = started  # type: ignore[attr-defined]
    try:
        yield start
    finally:
        for daemon in reversed(started):
            daemon.close()


@pytest.fixture
def apihour_daemon() -> Iterator[Callable[..., Daemon]]:
    """Start daemons for one test: call it with the arguments of :class:`Daemon`."""
    yield from _start_daemons()


@pytest.fixture(scope="module")
def apihour_module_daemon() -> Iterator[Callable[..., Daemon]]:
    """Start daemons that all tests of a module share: call it like ``apihour_daemon``."""
    yield from _start_daemons()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Show with a failed test what its daemons have logged."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {})
        starters = [fixtures.get(name) for name in ("apihour_daemon", "apihour_module_daemon")]
        daemons = [value for value in fixtures.values() if isinstance(value, Daemon)]
        for starter in starters:
            daemons += getattr(starter, "daemons", [])
        for daemon in dict.fromkeys(daemons):
            text = "\n".join(daemon.lines[-_LINES:])
            report.sections.append((f"log of {daemon.target} (pid {daemon.pid})", text))
    return report
