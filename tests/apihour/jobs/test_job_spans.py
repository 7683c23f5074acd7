"""Spans of jobs: one a run, of its own trace."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.trace import get_current_span

import apihour
from apihour.jobs.container_jobs import make_jobs
from tests.apihour.jobs.memory import Clock, Memory
from tests.apihour.loops import wait_until
from tests.spans import Traced


class Container(apihour.Container):
    traced: Traced
    seen: list[int]

    @apihour.every("1m")
    async def tick(self, run: apihour.JobRun) -> None:
        self.seen.append(get_current_span().get_span_context().span_id)

    @apihour.every("1m")
    async def failing(self) -> None:
        raise ValueError("hidden-value")


async def test_a_run_is_a_span(caplog: pytest.LogCaptureFixture) -> None:
    container = Container(worker="1.1")
    traced, container.seen = Traced(), []
    container.__dict__.update(tracer=traced.tracer, shared=Memory(Clock()))
    jobs = make_jobs(container, "1.1", logging.getLogger("jobs"))
    with traced.tracer.start_as_current_span("shell"):
        await jobs.run("tick")
        await jobs.run("failing")
    await wait_until(lambda: len(traced.spans) == 3)
    await jobs.drain()
    good, bad = traced.named("job tick"), traced.named("job failing")
    assert container.seen == [good.context.span_id]
    assert good.parent is None and bad.parent is None and good.status.is_ok
    assert bad.attributes["error.type"] == "ValueError" and not bad.status.is_ok
    assert "hidden-value" not in bad.to_json() and "hidden-value" in caplog.text
