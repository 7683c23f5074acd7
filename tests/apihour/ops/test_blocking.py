"""Which blocks of the loop a developer is told of."""

from __future__ import annotations

import asyncio
import logging
import selectors
from types import SimpleNamespace

import pytest

from apihour.ops import blocking
from apihour.ops.blocking import BlockingLog
from apihour.ops.stacks import Block

STACK = (f"{selectors.__file__}:468 select", f"{__file__}:3 handler",
         "/x/site-packages/lib.py:9 call", f"{asyncio.events.__file__}:80 Handle._run")
IDLE = (f"{asyncio.events.__file__}:80 Handle._run",)


def block(seconds: float, stack: tuple[str, ...] = STACK) -> Block:
    return Block(0.0, seconds, "", stack)


def test_a_long_one_names_the_users_line(caplog: pytest.LogCaptureFixture) -> None:
    log = BlockingLog(logging.getLogger("test.blocking"))
    log.tell("1.1", block(0.4))
    log.tell("1.1", block(2.0, IDLE))  # no line of anybody's: the machine was slow
    assert not caplog.records
    log.tell("1.1", block(0.52))
    assert caplog.records[0].getMessage().startswith(
        "Worker 1.1: its event loop was blocked for 0.5 s, and with it every connection of this "
        f"worker, at {__file__}:3: ")


def test_a_block_before_the_worker_serves_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    log = BlockingLog(logging.getLogger("test.blocking"))
    log.tell("1.1", Block(0.0, 2.0, "", STACK, at_start=True))
    assert not caplog.records
    log.tell("1.1", block(2.0))  # nor does it count as told
    assert len(caplog.records) == 1


def test_the_same_line_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(blocking, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log = BlockingLog(logging.getLogger("test.blocking"))
    for _ in range(10):
        log.tell("1.1", block(1.0))
    assert len(caplog.records) == 1
    log.tell("1.1", block(1.0, (f"{__file__}:9 other",)))
    assert len(caplog.records) == 2
    now[0] += 61
    log.tell("1.1", block(1.0))
    assert len(caplog.records) == 3
