"""What one HTTP connection is doing, derived from its state when somebody asks.

Rules:

- Nothing is kept for it: a request costs the same whether anybody looks or not.
- It is read beside the loop, so each attribute is read once, and may be old by then.
- A path is told without its query: secrets travel there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from apihour_http.connection.states import DISCARDING, UPGRADED
from apihour_http.request import Request

__all__ = ["activity", "told"]


def activity(lane: Any) -> dict[str, Any]:
    """State, path, route, begin and, behind a proxy, client of what `lane` does.

    States: ``open`` (nothing came yet), ``head`` or ``body`` (the client owes the rest of it),
    ``request`` (an answer is being made), ``write`` (the client does not read it), ``idle``,
    ``websocket``, ``closing``.
    """
    intake = lane.intake
    current, pending, inline = lane.answers.current, intake.pending, lane.answers.inline
    request = _request_of(current)
    if lane.state is UPGRADED:
        return told(lane, "websocket", request)
    if current is not None:
        owes = pending is not None and pending is current
        return told(
            lane, "write" if lane.write_paused else "body" if owes else "request", request)
    if pending is not None:
        return told(lane, "body", pending)
    if intake.urls or intake.head_bytes:
        return {"state": "head", "since": intake.head_since or intake.arrived}
    if inline is not None:  # a plain function runs, and the loop with it
        return told(lane, "request", inline)
    if lane.write_paused:
        return {"state": "write"}
    if lane.state is DISCARDING:
        return {"state": "closing"}
    return {"state": "idle" if lane.conn.requests else "open"}


def _request_of(current: Any) -> Any:
    """The request that `current` answers: a task of the direct lane has it as its argument."""
    if not isinstance(current, asyncio.Task):
        return current
    frame = getattr(current.get_coro(), "cr_frame", None)
    return frame.f_locals.get("request") if frame is not None else None


def told(lane: Any, state: str, request: Any) -> dict[str, Any]:
    """That `lane` is in `state` on account of `request`, if there is one."""
    if request is None:
        return {"state": state}
    since = getattr(request, "arrived", None)
    if isinstance(request, Request):
        path, route = request.path_qs, request.endpoint.route()
        client = lane.client(request.raw_headers)
    else:
        path, route = request.named()[1], _hosted_route(request)
        client = request.client()
    if client == lane.remote():
        client = None
    return {"state": state, "path": path.partition("?")[0], "route": route, "since": since,
            "client": client or ""}


def _hosted_route(exchange: Any) -> str:
    hosted = getattr(exchange, "hosted", None)
    route: str = hosted.route() if hosted is not None and hosted.running is exchange else ""
    return route
