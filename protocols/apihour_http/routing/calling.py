"""How an endpoint is called: decided once, at start, so that it pays for what it uses.

From the inside: the function with its arguments and what it asks for, a thread, ``timeout``,
``max_in_flight``, ``status``, what its tables have standing between, and ``compress``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_http.endpoint import Endpoint
from apihour_http.routing.compression import with_compression
from apihour_http.routing.limits import with_max_body, with_max_in_flight, with_timeout
from apihour_http.routing.middlewares import stand_between
from apihour_http.routing.outcome import with_status
from apihour_http.routing.provision import Provision
from apihour_http.routing.validation import Plan
from apihour_http.websocket.hosted import WebSockets

__all__ = ["settle"]


def settle(
    endpoint: Endpoint, plan: Plan | None = None,
    in_thread: Callable[[Any], Any] | None = None, provision: Provision | None = None,
) -> None:
    """Decide how `endpoint` is called; `in_thread` wraps one that blocks.

    `provision` has what it asks for. Raises RouteError when that is not there.
    """
    call = endpoint.function if plan is None else plan.wrap(endpoint.function)
    if plan is not None and plan.asked:
        call = (provision or Provision()).wrap(endpoint, plan.readers(), plan.asked)
    inline, first = endpoint.plain, None
    if endpoint.blocking and in_thread is not None:
        call = in_thread(call)
        first = getattr(endpoint.function, "at_once", None)
        if first is not None:
            call = _at_once(first, call)
    alone = call
    options = endpoint.options
    if endpoint.streams_body:
        call = with_max_body(call, endpoint.max_body)
    if "timeout" in options:
        call = with_timeout(call, options["timeout"])
    if "max_in_flight" in options:
        call = with_max_in_flight(call, inline, options["max_in_flight"])
    status = options.get("status", 200)
    if status != 200:
        call = with_status(call, status, inline)
    if endpoint.websocket is not None:
        endpoint.websockets = WebSockets(endpoint, endpoint.websocket)
    call, inline = stand_between(call, inline, endpoint.tables)
    if options.get("compress"):
        call = with_compression(call, inline)
    endpoint.call, endpoint.inline = call, inline
    # What stands between hears of all: then it is asked within the call.
    endpoint.first = first if call is alone else None


def _at_once(first: Callable[[Any], Any], call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What needs no thread, else `call`, which has one."""
    async def either(request: Any) -> Any:
        found = first(request)
        return found if found is not None else await call(request)

    return either
