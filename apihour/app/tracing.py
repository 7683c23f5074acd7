"""``container.tracer``: OpenTelemetry's API, imported where tracing is on."""

from __future__ import annotations

from typing import Any

from apihour.errors import ConfigurationError
from apihour.version import __version__

__all__ = ["make_tracer"]


def make_tracer(wanted: Any) -> Any:
    """A tracer of the provider that is set, now or later. Raises ConfigurationError."""
    if wanted is not True:
        raise ConfigurationError(f"tracing: {ascii(wanted)[:80]}; expected true or false")
    try:
        from opentelemetry.trace import get_tracer
    except ImportError as error:
        raise ConfigurationError(
            f"tracing: {error}; pip install 'apihour[tracing]'") from error
    return get_tracer("apihour", __version__)
