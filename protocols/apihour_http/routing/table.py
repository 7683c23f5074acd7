"""The routes of a started server: how each endpoint is called, and which answers a target.

Rules:

- Routes are frozen: what is declared later has no effect.
- What no route claims is the application's, where there is one; else it is answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from apihour_http.endpoint import Endpoint
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.head import HeadChecker
from apihour_http.options import Options
from apihour_http.response import Response
from apihour_http.routing.calling import settle
from apihour_http.routing.provision import Provision
from apihour_http.routing.routes import Match, Methods, Router, Routes, allowed
from apihour_http.routing.validation import Plan, plan

__all__ = ["Table", "examine", "prepare"]

_NO_ROUTE: Match = ({}, {})
# RFC 3986 3.4; with a fragment it is not, that is dropped first.
_is_query = re.compile(rb"[!\"$-~]*").fullmatch


def prepare(
    routes: Routes | None, options: Options, in_thread: Callable[[Any], Any],
    provision: Provision | None = None,
) -> list[Endpoint]:
    """Decide how each endpoint is called; `in_thread` wraps those that block.

    Raises RouteError for a signature that cannot be called, and what cannot be provided.
    """
    endpoints = list(routes) if routes is not None else []
    plans: dict[Endpoint, Plan | None] = {}
    for endpoint in endpoints:
        found = plans[endpoint] = plan(endpoint)
        endpoint.max_body = endpoint.options.get("max_body", options.max_body)
        settle(endpoint, found, in_thread, provision)
    if provision is not None:
        provision.see_overrides()
    wanted = options.openapi
    if wanted or (wanted is None and any(one and one.parameters for one in plans.values())):
        from apihour_http.routing.openapi import add_to

        for endpoint in add_to(endpoints, plans, options.title, options.version):
            endpoint.tables = _standing(routes)
            settle(endpoint)
            endpoints.append(endpoint)
    return endpoints


def examine(routes: Routes | None) -> None:
    """Raise what :func:`prepare` and a Table would: RouteError, or ImportError for an extra."""
    endpoints = list(routes) if routes is not None else []
    for endpoint in endpoints:
        plan(endpoint)
    Router(endpoints)


class Table:
    """Which endpoint answers which method and target, judged first."""

    __slots__ = ("_checker", "_everywhere", "_has_app", "_has_routes", "_missing", "_router",
                 "_standing", "endpoints", "find", "known", "plain")

    def __init__(
        self, endpoints: list[Endpoint], checker: HeadChecker, routes: Routes | None, has_app: bool
    ) -> None:
        self.endpoints = endpoints
        self._checker = checker
        self._has_routes = routes is not None
        self._standing = _standing(routes)
        self._has_app = has_app
        self._router = Router(endpoints)
        self.plain = self._router.plain
        self.known = self._router.known
        self.find = self._router.resolve  # by a path that was checked
        # What is at "*" (RFC 9110 9.3.7); OPTIONS of one path is not that of the server.
        self._everywhere: Methods = {} if has_app else {
            e.method.encode(): e for e in endpoints if e.method != "OPTIONS"}
        self._missing = self._nowhere(_not_found)

    def resolver(self) -> Callable[[bytes, bytes], Match]:
        """What finds the endpoints of a method and target; without any it only judges them."""
        return self.resolve if self.endpoints else self._judge

    def _judge(self, method: bytes, target: bytes) -> Match:
        """The application's. Raises BadRequest for a target that nobody may see."""
        if len(target) > self._checker.max_line:
            raise BadRequest("the request target is too long", 414)
        self._checker.check_target(method, target)
        return _NO_ROUTE

    def resolve(self, method: bytes, target: bytes) -> Match:
        """What is declared at `target`; nothing when no route claims it. Raises BadRequest."""
        methods = self.plain.get(target)
        if methods is not None:
            return methods, {}
        if len(target) > self._checker.max_line:
            raise BadRequest("the request target is too long", 414)
        # By its path alone: clients make queries that nobody has seen before.
        path, _, query = target.partition(b"?")
        methods = self.plain.get(path)
        if methods is not None and _is_query(query):
            return methods, {}
        known = self.known.get(path)
        if known is not None and _is_query(query):
            return known
        target = self._checker.check_target(method, target)
        if not self._has_routes:
            return _NO_ROUTE
        if target == b"*":
            return self._everywhere, {}
        return self._router.resolve(target.partition(b"?")[0])

    def stand_in(
        self, method: bytes, methods: Methods, fields: list[tuple[bytes, bytes]]
    ) -> Endpoint | None:
        """The endpoint for what no route claims; None when it is the application's.

        A CORS preflight belongs to whom the request belongs that it asks for.
        """
        if method == b"HEAD" and b"GET" in methods:
            return methods[b"GET"]
        if self._has_app and not (method == b"OPTIONS" and _asks_for(fields) in methods):
            return None
        if not methods:
            return self._missing
        allow = allowed(methods)
        if method == b"OPTIONS":
            return self._nowhere(lambda request: Response(204, {"Allow": allow}))
        return self._nowhere(_not_allowed(allow))

    def _nowhere(self, function: Callable[[Any], Any]) -> Endpoint:
        """An endpoint that no route declares; the server's own middlewares see it."""
        endpoint = Endpoint("*", "*", function, False, {}, self._standing)
        settle(endpoint)
        return endpoint


def _asks_for(fields: list[tuple[bytes, bytes]]) -> bytes:
    """The method that a CORS preflight asks for; empty for another request."""
    for name, value in fields:
        if len(name) == 29 and name.lower() == b"access-control-request-method":
            return value.strip(b" \t")
    return b""


def _standing(routes: Routes | None) -> tuple[Routes, ...]:
    """The server's own table, for what is declared nowhere."""
    return (routes,) if routes is not None else ()


def _not_found(request: Any) -> Any:
    raise HTTPError(404)


def _not_allowed(allow: str) -> Any:
    def answer(request: Any) -> Any:
        raise HTTPError(405, headers={"Allow": allow})

    return answer
