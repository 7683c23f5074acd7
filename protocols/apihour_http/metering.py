"""What each route takes, measured for a while because somebody asks.

Rules:

- Unasked it is not there: endpoints are called through a wrapper only while they are measured,
  and the application's handlers cost one look at an attribute. A request of the direct lane
  pays nothing before and after.
- Several may measure at once, each for its own time; endpoints that two servers share too.
- Latencies are counted in buckets five percent apart, so that workers can be added up.
- CPU is the loop's thread's, step by step of a coroutine; a thread of the pool is not in it.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any

from apihour_http.driven import Driven
from apihour_http.errors import HTTPError
from apihour_http.response import Live, Response, is_aiohttp

if TYPE_CHECKING:
    from apihour_http.endpoint import Endpoint
    from apihour_http.service import Now

__all__ = ["GROWTH", "Meter", "Stepped", "status_of"]

GROWTH = math.log(1.05)
_MOST = 500  # routes that one measure tells apart; applications have fewer
_SHORTEST = 1e-6  # seconds; what is faster counts as that


@dataclass
class Figures:
    """What one route has taken; `latency` counts by bucket, `cpu` in seconds."""

    requests: int = 0
    errors: int = 0
    begun: int = 0
    cpu: float = 0.0
    latency: Counter[int] = field(default_factory=Counter)


class Stepped(Driven):
    """A coroutine whose CPU time is added up."""

    __slots__ = ("_began", "_spent")

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._spent = 0.0
        self._began: float | None = None

    @property
    def cpu(self) -> float:
        """Seconds so far, the step that is running included."""
        began = self._began
        return self._spent + (thread_time() - began if began is not None else 0.0)

    def _step(self, function: Any, *arguments: Any) -> Any:
        self._began = thread_time()
        try:
            return function(*arguments)
        finally:
            self._spent += thread_time() - self._began
            self._began = None


class Meter:
    """Measures the routes of one server; `endpoints` are all that it calls, `now` tells them."""

    def __init__(self, now: Now, endpoints: Iterable[Endpoint]) -> None:
        self._now = now
        self._endpoints = list(endpoints)
        self._measures: list[dict[str, Figures]] = []
        self._hosted: dict[int, Stepped] = {}

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """What each route takes in that time; see :meth:`HTTPServer.measure`."""
        figures: dict[str, Figures] = {}
        if not self._measures:
            self._begin()
        self._measures.append(figures)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._measures = [one for one in self._measures if one is not figures]
            if not self._measures:
                self._end()
        return [
            {"route": route, "requests": one.requests, "errors": one.errors, "cpu": one.cpu,
             "running": max(0, one.begun - one.requests), "latency": sorted(one.latency.items())}
            for route, one in figures.items()
        ]

    def _begin(self) -> None:
        self._now.meter = self
        self._now.watchers += (self,)
        for endpoint in self._endpoints:
            if endpoint.measured == 0:
                endpoint.unmeasured = endpoint.call, endpoint.first
                endpoint.call, endpoint.first = _measured(endpoint), None
            endpoint.measured += 1

    def _end(self) -> None:
        self._now.meter = None
        self._now.watchers = tuple(one for one in self._now.watchers if one is not self)
        self._hosted.clear()
        for endpoint in self._endpoints:
            endpoint.measured -= 1
            if endpoint.measured == 0:
                endpoint.call, endpoint.first = endpoint.unmeasured

    # what requests tell

    def begun(self, route: str) -> None:
        """A request has begun."""
        for one in self._all(route):
            one.begun += 1

    def ended(self, route: str, seconds: float, cpu: float, status: int) -> None:
        """A request has its answer, `seconds` after it came."""
        bucket = round(math.log(max(seconds, _SHORTEST)) / GROWTH)
        for one in self._all(route):
            one.requests += 1
            one.errors += status >= 500
            one.cpu += cpu
            one.latency[bucket] += 1

    def _all(self, route: str) -> Iterable[Figures]:
        for figures in self._measures:
            known = figures.get(route)
            if known is None:
                name = route if len(figures) < _MOST else ""
                known = figures.setdefault(name, Figures())
            yield known

    # the application's handlers

    def hosted(self, exchange: Any, serving: Any) -> Any:
        """The coroutine that serves an exchange of the application, measured."""
        self._hosted[id(exchange)] = stepped = Stepped(serving)
        return stepped

    def hosted_done(self, exchange: Any, status: int, seconds: float) -> None:
        """The application has answered; one whose begin was not seen has no CPU time."""
        stepped = self._hosted.pop(id(exchange), None)
        cpu = stepped.cpu if stepped is not None else 0.0
        route = exchange.hosted.route()
        self.begun(route)
        self.ended(route, seconds, cpu, status)


def _measured(endpoint: Endpoint) -> Any:
    """The call of an endpoint, told to the meter of the server that a request came by."""
    measured = _measured_inline if endpoint.inline else _measured_later
    return measured(endpoint.call, endpoint.route())


def _measured_inline(call: Any, route: str) -> Any:
    @functools.wraps(call)
    def inline(request: Any) -> Any:
        meter = request.lane.service.now.meter
        if meter is None:
            return call(request)
        meter.begun(route)
        before, status = thread_time(), 500
        try:
            result = call(request)
            status = status_of(result)
            return result
        except Exception as error:
            status = status_of(error, 500)
            raise
        finally:
            meter.ended(route, monotonic() - request.arrived, thread_time() - before, status)

    return inline


def _measured_later(call: Any, route: str) -> Any:
    @functools.wraps(call)
    async def later(request: Any) -> Any:
        meter = request.lane.service.now.meter
        if meter is None:
            return await call(request)
        meter.begun(route)
        stepped, status = Stepped(call(request)), 500
        try:
            result = await stepped
            status = status_of(result)
            return result
        except Exception as error:
            status = status_of(error, 500)
            raise
        finally:
            meter.ended(route, monotonic() - request.arrived, stepped.cpu, status)

    return later


def status_of(result: Any, otherwise: int = 200) -> int:
    """The status of what an endpoint returns or raises; data is answered with `otherwise`."""
    if isinstance(result, Response | Live | HTTPError) or is_aiohttp(result):
        return int(result.status)
    said = getattr(result, "http_status", None)  # of an engine that is down, for instance
    return said if type(said) is int else otherwise
