"""The last log records of a worker."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest

from apihour.ops.logring import LogRing

_numbers = itertools.count()


@pytest.fixture
def logger() -> logging.Logger:
    logger = logging.getLogger(f"ring.test.{next(_numbers)}")
    logger.setLevel(logging.DEBUG)
    return logger


@pytest.fixture
def ring(logger: logging.Logger) -> Iterator[LogRing]:
    ring = LogRing(3)
    ring.attach(logger, None)
    yield ring
    ring.detach()


def messages(ring: LogRing) -> list[str]:
    return [record.message for record in ring.records]


def test_keeps_the_last_ones_with_their_numbers(logger: logging.Logger, ring: LogRing) -> None:
    for number in range(1, 6):
        logger.info("line %d", number)
    assert [(r.number, r.message) for r in ring.records] == [
        (3, "line 3"), (4, "line 4"), (5, "line 5")]
    assert {(r.level, r.logger) for r in ring.records} == {(logging.INFO, logger.name)}


def test_a_message_is_bounded(logger: logging.Logger, ring: LogRing) -> None:
    logger.info("x" * 100_000)
    assert len(ring.records[0].message) == 4000


def test_a_traceback_is_kept(logger: logging.Logger, ring: LogRing) -> None:
    try:
        raise KeyError("pg")
    except KeyError:
        logger.exception("it failed")
    assert messages(ring)[0].startswith("it failed\nTraceback")
    assert messages(ring)[0].endswith("KeyError: 'pg'")


def test_what_was_logged_is_what_it_was_then(logger: logging.Logger, ring: LogRing) -> None:
    changing = [1]
    logger.info("%s", changing)
    changing.append(2)
    assert messages(ring) == ["[1]"]


def test_detached_it_hears_nothing(logger: logging.Logger, ring: LogRing) -> None:
    ring.detach()
    logger.info("later")
    assert messages(ring) == []


def test_wrong_arguments_do_not_raise_where_the_log_call_stands(
    logger: logging.Logger, ring: LogRing
) -> None:
    logger.propagate = False  # pytest's own handler raises
    logger.info("%d %d", "one")
    (message,) = messages(ring)
    assert message.startswith("'%d %d' % ('one',): TypeError: ")


def test_warnings_nobody_else_prints_still_reach_stderr(
    logger: logging.Logger, ring: LogRing, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging._defaultLastResort)  # type: ignore[attr-defined]
    logger.propagate = False
    for handler in list(logger.handlers):
        if handler is not ring:
            logger.removeHandler(handler)
    logger.info("quiet")
    logger.warning("loud")
    assert capsys.readouterr().err == "loud\n"
    other = logging.NullHandler()
    logger.addHandler(other)
    logger.warning("printed by the other")
    assert capsys.readouterr().err == ""
