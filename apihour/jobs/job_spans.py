"""Spans of jobs, where the container has a tracer of OpenTelemetry.

Of what a run raises the span has the class; the text is in the log. A run that its schedule began
is a trace of its own: what it asks of engines is within it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from apihour.jobs.declare import JobSpec

__all__ = ["spanned_job"]


def spanned_job(tracer: Any, spec: JobSpec) -> JobSpec:
    """The same job, each run of it in a span ``job NAME``."""
    return replace(spec, function=_spanned(tracer, spec.name, spec.function))


def _spanned(
    tracer: Any, name: str, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def run(*arguments: Any) -> Any:
        with tracer.start_as_current_span(
                f"job {name}", Context(), attributes={"apihour.job": name},
                record_exception=False, set_status_on_exception=False) as span:
            try:
                return await function(*arguments)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                if isinstance(error, Exception):
                    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    return run
