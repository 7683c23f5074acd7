"""Routes: which endpoint answers which method and path.

Rules:

- A literal segment wins over a parameter, whatever the order of declaration; a stricter
  converter wins over ``str``.
- Resolving splits on the encoded path, then decodes each segment: an encoded slash never
  makes a new segment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote

from apihour_http.endpoint import Endpoint
from apihour_http.errors import RouteError
from apihour_http.routing.middlewares import check_handler, check_middleware
from apihour_http.routing.paths import (
    CONVERTERS,
    ORDER,
    Converter,
    check_prefix,
    parameters_of,
    parse_path,
)
from apihour_http.routing.route_options import check_can_run, check_options
from apihour_http.routing.signatures import check_request
from apihour_http.static.handler import static_endpoint
from apihour_http.websocket.declared import as_endpoint, options_of

__all__ = ["Match", "Routes"]

F = TypeVar("F", bound=Callable[..., Any])
_METHOD = re.compile(r"[A-Z][A-Z-]*")

Methods = dict[bytes, Endpoint]
Match = tuple[Methods, dict[str, Any]]

# Resolved paths remembered at most, and the longest one: a scanner of random paths
# makes the table start again, and costs no memory.
_REMEMBERED = 1024
_LONGEST = 256


class _Node:
    """One place of the tree: what may follow as the next segment."""

    __slots__ = ("literals", "methods", "names", "parameters", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameters: list[tuple[int, Converter, _Node]] = []
        self.rest: _Node | None = None
        self.methods: Methods = {}
        self.names: tuple[str, ...] = ()


class Routes:
    """A table of endpoints; its methods are decorators.

    ::

        routes = Routes()

        @routes.get("/users/{id:int}")
        async def user(request):
            return {"id": request.match_info["id"]}
    """

    def __init__(self, prefix: str = "") -> None:
        check_prefix(prefix)
        self.prefix = prefix
        self.endpoints: list[Endpoint] = []
        self.middlewares: list[Callable[[Any, Callable[[Any], Any]], Any]] = []
        self.exception_handlers: dict[type[Exception], Callable[[Any, Any], Any]] = {}
        self._is_included = False

    def route(
        self, method: str, path: str, *, blocking: bool = False, **options: Any
    ) -> Callable[[F], F]:
        """Declare an endpoint for `method` and `path`.

        `blocking` runs a plain ``def`` in the thread pool. `options` are ``status``, which
        plain data is answered with; ``timeout`` (seconds, of an ``async def``) and
        ``max_in_flight`` (calls under way in this worker), beyond which the answer is 503;
        ``compress``, whether answers of text are sent as gzip to those who accept it;
        ``stream_body`` for a body that is taken as it comes (``request.stream()``), and its
        ``max_body`` (bytes; the server's, unless it is told); and for OpenAPI ``summary``,
        ``description``, ``tags`` and ``include_in_schema``. Raises RouteError, also for an
        unknown option.
        """
        method = method.upper()
        if not _METHOD.fullmatch(method) or method == "CONNECT":
            raise RouteError(f"route {path!r}: method {method!r} cannot be routed")
        if callable(path):
            raise RouteError(f"{_name(path)}: expected a path, @routes.{method.lower()}(\"/path\")")
        path = self.prefix + path
        names = {name for name, _ in parameters_of(path)}
        check_options(f"{method} {path}", options)

        def declare(function: F) -> F:
            check_request(method, path, function, names)
            check_can_run(f"{method} {path}", function, options)
            self._add([Endpoint(method, path, function, blocking, options, (self,))])
            return function

        return declare

    def _add(self, endpoints: list[Endpoint]) -> None:
        for endpoint in endpoints:
            self._check_new(endpoint)
        self.endpoints += endpoints

    def _check_new(self, endpoint: Endpoint) -> None:
        method, path = endpoint.method, endpoint.path
        if any(e.method == method and e.path == path for e in self.endpoints):
            raise RouteError(f"route {method} {path}: declared twice")
        if self._is_included:
            raise RouteError(f"route {method} {path}: declared after its table was included in "
                             "another, which does not have it: expected include() last")

    def get(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for GET (and HEAD, unless that is declared too)."""
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for POST."""
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for PUT."""
        return self.route("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for PATCH."""
        return self.route("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for DELETE."""
        return self.route("DELETE", path, **options)

    def head(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for HEAD."""
        return self.route("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare an endpoint for OPTIONS."""
        return self.route("OPTIONS", path, **options)

    def websocket(self, path: str, **options: Any) -> Callable[[F], F]:
        """Declare ``async def endpoint(request, websocket)`` for WebSockets at `path`.

        `options` are ``max_size`` (bytes of a message, 1 MiB), ``ping_interval`` (seconds, 20;
        0 for none), ``subprotocols`` and ``max_in_flight``. Raises RouteError.
        """
        path = self.prefix + path
        route = f"GET {path}"
        parse_path(path)
        limits = {name: options.pop(name) for name in ("max_in_flight",) if name in options}
        check_options(route, limits)
        websocket = options_of(route, options)

        def declare(function: F) -> F:
            endpoint = Endpoint("GET", path, as_endpoint(route, function), False,
                                {"include_in_schema": False, **limits}, (self,))
            endpoint.websocket = websocket
            self._add([endpoint])
            return function

        return declare

    def static(
        self, path: str, directory: str | os.PathLike[str], *, remember: float = 0.0
    ) -> None:
        """Answer GET (and HEAD) below `path` with the files of `directory`.

        A directory in it is its ``index.html``, or nothing. Files up to 64 KB are kept in memory
        for `remember` seconds, so long a change may not be seen: for files that change with a
        deployment only. Raises RouteError, also when that is no directory.
        """
        self.get(f"{path.rstrip('/')}/{{path:path}}", blocking=True, include_in_schema=False)(
            static_endpoint(path, directory, remember))

    def middleware(self, function: F) -> F:
        """Put ``async def function(request, call)`` around this table's endpoints.

        The first that is declared is the outermost; ``await call(request)`` gives the answer.
        Those of the server's table see what no route claims, too. Raises RouteError.
        """
        check_middleware(function)
        self.middlewares.append(function)
        return function

    def exception_handler(self, kind: type[Exception]) -> Callable[[F], F]:
        """Answer exceptions of `kind` from this table's endpoints by ``function(request, error)``.

        It returns a Response, or an HTTPError. Raises RouteError.
        """
        def declare(function: F) -> F:
            check_handler(kind, function)
            if kind in self.exception_handlers:
                raise RouteError(f"exception_handler({kind.__name__}): declared twice")
            self.exception_handlers[kind] = function
            return function

        return declare

    def include(self, other: Routes, prefix: str = "") -> None:
        """Add the endpoints of `other` under this table's prefix, and `prefix`.

        They keep the middlewares and exception handlers of `other`, within this table's.
        Raises RouteError.
        """
        if not isinstance(other, Routes) or other is self:
            raise RouteError(f"include({ascii(other)[:100]}): expected other Routes")
        check_prefix(prefix)
        self._add([e.within(self.prefix + prefix, self) for e in other.endpoints])
        other._is_included = True

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)

    def __len__(self) -> int:
        return len(self.endpoints)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


class Router:
    """The frozen form of :class:`Routes`: a tree, and a table of the paths seen."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._root = _Node()
        self.plain: dict[bytes, Methods] = {}
        self.known: dict[bytes, Match] = {}
        for endpoint in endpoints:
            self._add(endpoint)

    def _add(self, endpoint: Endpoint) -> None:
        node = self._root
        names = []
        parts = parse_path(endpoint.path)
        for part in parts:
            if isinstance(part, str):
                node = node.literals.setdefault(part, _Node())
                continue
            names.append(part[0])
            node = self._parameter(node, part[1])
        if node.methods and node.names != tuple(names):
            raise RouteError(
                f"route {endpoint.method} {endpoint.path}: the same place is called "
                f"{node.names} by another route; expected the same names"
            )
        node.names = tuple(names)
        node.methods[endpoint.method.encode()] = endpoint
        if not names and endpoint.path.isascii():
            self.plain[endpoint.path.encode()] = node.methods

    @staticmethod
    def _parameter(node: _Node, converter: str) -> _Node:
        if converter == "path":
            node.rest = node.rest or _Node()
            return node.rest
        rank = ORDER.index(converter)
        for known, _, child in node.parameters:
            if known == rank:
                return child
        child = _Node()
        node.parameters.append((rank, CONVERTERS[converter], child))
        node.parameters.sort(key=lambda entry: entry[0])
        return child

    def resolve(self, path: bytes) -> Match:
        """The methods at `path`, none if it is no route's.

        What is found is remembered in ``known``; whoever uses it copies the parameters.
        """
        methods = self.plain.get(path)
        if methods is not None:
            return methods, {}
        text = path.decode("ascii", "replace")
        segments = text[1:].split("/")
        if "%" in text:
            segments = [unquote(segment) for segment in segments]
        values: list[Any] = []
        node = _walk(self._root, segments, 0, values)
        methods, match_info = {}, {}
        if node is not None:
            methods, match_info = node.methods, dict(zip(node.names, values, strict=True))
        if len(path) <= _LONGEST:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[path] = methods, match_info
        return methods, match_info


def _walk(node: _Node, segments: list[str], place: int, values: list[Any]) -> _Node | None:
    """The node at the end of `segments` that has methods; fills `values` on the way."""
    if place == len(segments):
        return node if node.methods else None
    segment = segments[place]
    child = node.literals.get(segment)
    if child is not None:
        found = _walk(child, segments, place + 1, values)
        if found is not None:
            return found
    if segment:
        for _, convert, child in node.parameters:
            try:
                value = convert(segment)
            except ValueError:
                continue
            values.append(value)
            found = _walk(child, segments, place + 1, values)
            if found is not None:
                return found
            values.pop()
    if node.rest is not None:
        values.append("/".join(segments[place:]))
        return node.rest
    return None


def allowed(methods: Methods) -> str:
    """The value of Allow for a place: what is declared, and what is answered by itself."""
    names = {name.decode() for name in methods} | {"OPTIONS"}
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))
