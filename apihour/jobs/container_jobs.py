"""The jobs of one worker's container, made from what its class declares and its configuration."""

from __future__ import annotations

import logging
from typing import Any

from apihour.errors import ConfigurationError
from apihour.jobs import Jobs, see_jobs
from apihour.shared.chosen import is_elsewhere

__all__ = ["check_jobs", "holder", "is_of_many", "make_jobs"]

_SHORTEST, _LONGEST = 1.0, 3600.0  # seconds of a lease


def check_jobs(container: Any) -> float:
    """See what `container` declares, and ``jobs:`` of its configuration; returns the lease.

    Raises ConfigurationError naming what is wrong.
    """
    see_jobs(container)
    options = container.config.get("jobs") or {}
    if not isinstance(options, dict) or set(options) - {"lease"}:
        raise ConfigurationError(f"jobs: {options!r}; expected lease: SECONDS, and nothing else")
    lease = options.get("lease", 10.0)
    if isinstance(lease, bool) or not (
            isinstance(lease, int | float) and _SHORTEST <= lease <= _LONGEST):
        raise ConfigurationError(
            f"jobs: lease: {lease!r}; expected {_SHORTEST:g} to {_LONGEST:g} seconds")
    return float(lease)


def make_jobs(container: Any, worker: str, log: logging.Logger) -> Jobs:
    """What ``container.jobs`` is. Raises ConfigurationError as :func:`check_jobs`."""
    lease = check_jobs(container)
    specs, tracer = see_jobs(container), getattr(container, "tracer", None)
    if tracer is not None and specs:
        from apihour.jobs.job_spans import spanned_job

        specs = {name: spanned_job(tracer, spec) for name, spec in specs.items()}
    return Jobs(specs, lambda: container.shared, holder(container, worker), log, lease=lease)


def is_of_many(container: Any) -> bool:
    """Whether ``container.shared`` is a store that daemons of many machines may have together."""
    return is_elsewhere(container.config.get("shared"))


def holder(container: Any, worker: str) -> str:
    """What a worker is called in the store: with its host where there are several."""
    if not is_of_many(container):
        return worker
    from apihour.ipc.host_name import host_name  # as in the shell over a fleet

    return f"{host_name()}:{worker}"
