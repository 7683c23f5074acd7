"""What one endpoint may take: the time of a call, and how many are under way at once.

Rules:

- Beyond either the answer is 503 with Retry-After (RFC 9110 15.6.4).
- A stream and a WebSocket are under way until they have ended.
- The numbers are those of one worker.
- A body of its own limit is judged while it comes; one that came with its head, here.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from typing import Any

from apihour_http.endpoint import EndpointCall
from apihour_http.errors import HTTPError
from apihour_http.response import Live

__all__ = ["InFlight", "with_max_body", "with_max_in_flight", "with_timeout"]


def _unavailable(detail: str) -> HTTPError:
    return HTTPError(503, detail, headers={"Retry-After": "1"})


def with_timeout(call: EndpointCall, seconds: float) -> EndpointCall:
    """Wrap an async endpoint: its call is cancelled after `seconds`, and answered 503."""

    @functools.wraps(call)
    async def timed(request: Any) -> Any:
        try:
            async with asyncio.timeout(seconds) as clock:
                return await call(request)
        except TimeoutError:
            if not clock.expired():
                raise  # the endpoint's own
            raise _unavailable(f"no answer within {seconds:g} s") from None

    return timed


def with_max_body(call: EndpointCall, most: int) -> EndpointCall:
    """Wrap an async endpoint that takes its body as it comes: up to `most` bytes, else 413."""

    @functools.wraps(call)
    async def bounded(request: Any) -> Any:
        if len(request.body) > most:
            raise HTTPError(413, f"a body over {most} bytes")
        return await call(request)

    return bounded


class InFlight:
    """How many calls of one endpoint are under way; `most` may be."""

    __slots__ = ("count", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0

    def enter(self) -> None:
        """One more. Raises HTTPError 503 when that is one too many."""
        if self.count >= self.most:
            raise _unavailable(f"{self.most} requests of this kind are under way")
        self.count += 1

    def leave(self) -> None:
        """One is done."""
        self.count -= 1

    def ended(self, result: Any) -> None:
        """A call returned `result`; one that is still to be sent leaves when it is gone."""
        if isinstance(result, Live):
            # Whoever replaces it, or never comes to send it, does not count for ever.
            result.done = weakref.finalize(result, self.leave)
        else:
            self.leave()


def with_max_in_flight(call: EndpointCall, inline: bool, most: int) -> EndpointCall:
    """Wrap an endpoint's `call`: while `most` are under way, others are answered 503."""
    running = InFlight(most)

    def enter_inline(request: Any) -> Any:
        running.enter()
        result = None
        try:
            result = call(request)
        finally:
            running.ended(result)
        return result

    async def enter(request: Any) -> Any:
        running.enter()
        result = None
        try:
            result = await call(request)
        finally:
            running.ended(result)
        return result

    return functools.wraps(call)(enter_inline if inline else enter)
