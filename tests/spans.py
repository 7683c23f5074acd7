"""Spans as tests see them: a tracer that keeps what it makes."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Traced:
    """A tracer, and the spans that have ended, in their order."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")

    @property
    def spans(self) -> tuple[Any, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> Any:
        """The one span of that name."""
        (found,) = [one for one in self.spans if one.name == name]
        return found
