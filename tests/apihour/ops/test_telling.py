"""What of a worker's log is told as an event."""

from __future__ import annotations

import logging

import pytest

from apihour.ops.telling import Teller


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> tuple[logging.Logger, list[str]]:
    found: list[str] = []
    log = logging.Logger("telling")
    log.addHandler(Teller(lambda event, what: found.append(f"{event}: {what}")))
    return log, found


def event(name: str) -> dict[str, str]:
    return {"apihour_event": name}


def test_only_what_says_so_is_told(told: tuple[logging.Logger, list[str]]) -> None:
    log, found = told
    log.error("a request failed")
    log.error("engine %r is down", "pg", extra=event("engine pg"))
    assert found == ["told: engine 'pg' is down"]


def test_with_its_exception_in_one_line_without_secrets(
    told: tuple[logging.Logger, list[str]],
) -> None:
    log, found = told
    try:
        raise ValueError("no answer of http://me:hunter2@shop\x1b[2J\nPassword: hunter2")
    except ValueError:
        log.exception("job 'prune' failed", extra=event("job prune"))
    (line,) = found
    assert line.startswith("told: job 'prune' failed: ValueError: no answer of http://me:****")
    assert "hunter2" not in line
    assert line.isprintable()
    log.error("x" * 100_000, extra=event("long"))
    assert len(found[-1]) < 3000


def test_each_name_once_a_minute(
    told: tuple[logging.Logger, list[str]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, found = told
    now = 1000.0
    monkeypatch.setattr("apihour.ops.telling.time.monotonic", lambda: now)
    for _ in range(1000):
        log.error("a", extra=event("job a"))
        log.error("b", extra=event("job b"))
    assert found == ["told: a", "told: b"]
    now += 61.0
    log.error("a", extra=event("job a"))
    assert found == ["told: a", "told: b", "told: a"]
