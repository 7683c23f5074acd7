"""The routes of a started server: how each endpoint is called, and which answers a target.

Rules:

- Routes are frozen: what is declared later has no effect.
- What no route claims is the application's, where there is one; else it is answered here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import HeadChecker
from apihour_http.options import Options
from apihour_http.response import Response
from apihour_http.routing.outcome import with_status
from apihour_http.routing.routes import Endpoint, Match, Methods, Router, Routes, allowed
from apihour_http.routing.validation import Plan, plan

__all__ = ["Table", "prepare"]

_NO_ROUTE: Match = ({}, {})


def prepare(
    routes: Routes | None, options: Options, in_thread: Callable[[Any], Any]
) -> list[Endpoint]:
    """Decide how each endpoint is called; `in_thread` wraps those that block.

    Raises RouteError for a signature that cannot be called.
    """
    endpoints = list(routes) if routes is not None else []
    plans: dict[Endpoint, Plan | None] = {}
    for endpoint in endpoints:
        found = plans[endpoint] = plan(endpoint)
        call = endpoint.function if found is None else found.wrap(endpoint.function)
        endpoint.call = in_thread(call) if endpoint.blocking else call
        status = int(endpoint.options.get("status", 200))
        if status != 200:
            endpoint.call = with_status(endpoint.call, status, endpoint.inline)
    wanted = options.openapi
    if wanted or (wanted is None and any(plans.values())):
        from apihour_http.routing.openapi import add_to

        endpoints += add_to(endpoints, plans, options.title, options.version)
    return endpoints


class Table:
    """Which endpoint answers which method and target, judged first."""

    __slots__ = ("_checker", "_everywhere", "_has_app", "_has_routes", "_missing", "_router",
                 "endpoints", "known", "plain")

    def __init__(
        self, endpoints: list[Endpoint], checker: HeadChecker, has_routes: bool, has_app: bool
    ) -> None:
        self.endpoints = endpoints
        self._checker = checker
        self._has_routes = has_routes
        self._has_app = has_app
        self._router = Router(endpoints)
        self.plain = self._router.plain
        self.known = self._router.known
        # What is at "*" (RFC 9110 9.3.7); OPTIONS of one path is not that of the server.
        self._everywhere: Methods = {} if has_app else {
            e.method.encode(): e for e in endpoints if e.method != "OPTIONS"}
        self._missing = Endpoint("*", "*", _not_found, False, {})

    def resolve(self, method: bytes, target: bytes) -> Match:
        """What is declared at `target`; nothing when no route claims it. Raises BadRequest."""
        if len(target) > self._checker.max_line:
            raise BadRequest("the request target is too long", 414)
        target = self._checker.check_target(method, target)
        if not self._has_routes:
            return _NO_ROUTE
        return (self._everywhere, {}) if target == b"*" else self._router.resolve(target)

    def stand_in(self, method: bytes, methods: Methods) -> Endpoint | None:
        """The endpoint for what no route claims; None when it is the application's."""
        if method == b"HEAD" and b"GET" in methods:
            return methods[b"GET"]
        if self._has_app:
            return None
        if not methods:
            return self._missing
        allow = allowed(methods)
        if method == b"OPTIONS":
            return Endpoint("*", "*", lambda request: Response(204, {"Allow": allow}), False, {})
        return Endpoint("*", "*", _not_allowed(allow), False, {})


def _not_found(request: Any) -> Any:
    raise HTTPError(404)


def _not_allowed(allow: str) -> Any:
    def answer(request: Any) -> Any:
        raise HTTPError(405, headers={"Allow": allow})

    return answer
