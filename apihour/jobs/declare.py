"""Declaring a job: a decorator on an async method of the container says when it runs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

from apihour.errors import ConfigurationError
from apihour.jobs.schedule import Cron, Schedule, interval

__all__ = ["Drain", "JobSpec", "Misfire", "Overlap", "cron", "every", "see_jobs"]

F = TypeVar("F", bound=Callable[..., Any])
Misfire = Literal["skip", "once"]
Overlap = Literal["skip", "queue"]
Drain = Literal["wait", "move"]
_MARK = "__apihour_job__"
_NAME = 100  # bytes of a name: it is part of a key of the store


@dataclass(frozen=True)
class JobSpec:
    """One job as declared. `function` is bound when it is a container's."""

    name: str
    schedule: Schedule
    misfire: Misfire
    overlap: Overlap
    drain: Drain
    function: Callable[..., Awaitable[Any]]
    takes_run: bool


def every(
    time: str | float, *, misfire: Misfire = "skip", overlap: Overlap = "skip",
    drain: Drain = "wait",
) -> Callable[[F], F]:
    """Decorator: the method runs every so long (``"5m"``, or seconds), in one worker at a time.

    The first time is one interval after the daemon came up. `misfire`: whether a run that was
    missed, by over a minute or because its worker died, is left out (``skip``) or made up for,
    ``once`` whatever their number. `overlap`: whether a time that comes while the job still runs is
    left out (``skip``) or has it run once more after that (``queue``). `drain`: whether a worker
    that retires lets it end (``wait``, ``--graceful-timeout`` at most) or cancels it, and another
    worker begins it anew at once (``move``).
    """
    def mark(function: F) -> F:
        return _declare(function, interval(time), misfire, overlap, drain)
    return mark


def cron(
    expression: str, *, zone: str = "UTC", misfire: Misfire = "skip", overlap: Overlap = "skip",
    drain: Drain = "wait",
) -> Callable[[F], F]:
    """Decorator: the method runs at the times of a cron expression, in one worker at a time.

    `expression` is crontab(5)'s, ``"0 3 * * *"``; `zone` a name like ``Europe/Brussels``. The
    rest is as for :func:`every`. Needs cronsim.
    """
    def mark(function: F) -> F:
        schedule = Cron(expression, zone)
        schedule.check()
        return _declare(function, schedule, misfire, overlap, drain)
    return mark


def _declare(
    function: F, schedule: Schedule, misfire: Misfire, overlap: Overlap, drain: Drain
) -> F:
    """Mark the function. Raises ConfigurationError naming it and what is wrong."""
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"job {name}: {function!r}; expected an async method of the container (asyncio."
            "to_thread or container.run_cpu in it for code that blocks)")
    for option, value, choices in (("misfire", misfire, Misfire), ("overlap", overlap, Overlap),
                                   ("drain", drain, Drain)):
        if value not in get_args(choices):
            raise ConfigurationError(
                f"job {name}: {option} {value!r}; expected {' or '.join(get_args(choices))}")
    if hasattr(function, _MARK):
        raise ConfigurationError(
            f"job {name}: has a schedule already; expected one: another method may call it")
    takes_run = len(inspect.signature(function).parameters) > 1
    setattr(function, _MARK, JobSpec(
        function.__name__, schedule, misfire, overlap, drain, function, takes_run))
    return function


def see_jobs(container: Any) -> dict[str, JobSpec]:
    """The jobs that the class of `container` declares, by name.

    Raises ConfigurationError naming one that cannot be called.
    """
    return {spec.name: spec for spec in _bound(container)}


def _bound(container: Any) -> Iterator[JobSpec]:
    cls = type(container)
    for name in dir(cls):
        spec = getattr(inspect.getattr_static(cls, name), _MARK, None)
        if not isinstance(spec, JobSpec):
            continue
        method = getattr(container, name)
        where = f"job {cls.__module__}.{cls.__qualname__}.{name}"
        if len(name.encode()) > _NAME:
            raise ConfigurationError(f"{where}: expected a name of at most {_NAME} bytes")
        try:
            inspect.signature(method).bind(*((None,) if spec.takes_run else ()))
        except TypeError as error:
            raise ConfigurationError(
                f"{where} cannot be called: {error}; expected async def {name}(self) or "
                f"{name}(self, run)") from error
        yield replace(spec, name=name, function=method)
