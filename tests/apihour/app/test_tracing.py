"""``container.tracer``: there when the configuration says so, refused with one line."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from apihour import Container
from apihour.errors import ConfigurationError


def tracer(config: dict[str, Any]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return Container(config, None, loop).tracer
    finally:
        loop.close()


def test_it_is_opentelemetrys() -> None:
    assert tracer({}) is None and tracer({"tracing": False}) is None
    assert hasattr(tracer({"tracing": True}), "start_as_current_span")


def test_another_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="tracing: 'yes'; expected true or false"):
        tracer({"tracing": "yes"})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'apihour\[tracing\]'"):
        tracer({"tracing": True})
