"""Routes: which endpoint answers which method and path.

Rules:

- A path is literal segments and ``{name}`` or ``{name:converter}`` ones; a converter is
  int, float, uuid, str (one segment) or path (all the rest, last only).
- A literal segment wins over a parameter, whatever the order of declaration; a stricter
  converter wins over ``str``.
- Resolving splits on the encoded path, then decodes each segment: an encoded slash never
  makes a new segment.
"""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote

from apihour_http.errors import RouteError
from apihour_http.routing.signatures import check_request

__all__ = ["Endpoint", "Match", "Routes"]

F = TypeVar("F", bound=Callable[..., Any])
Converter = Callable[[str], Any]

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_INT = re.compile(r"-?[0-9]{1,20}")
_FLOAT = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError(text)
    return float(text)


CONVERTERS: dict[str, Converter] = {
    "int": _int, "float": _float, "uuid": uuid.UUID, "str": str, "path": str,
}
# Strict ones first: ``{id:int}`` is tried before ``{name}``.
_ORDER = list(CONVERTERS)


class Endpoint:
    """One declared endpoint: the function, its method and path, and how it runs."""

    __slots__ = ("blocking", "call", "function", "inline", "measured", "method", "name", "options",
                 "path", "unmeasured")

    def __init__(
        self, method: str, path: str, function: Callable[..., Any], blocking: bool,
        options: dict[str, Any],
    ) -> None:
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with async __call__
        )
        if blocking and is_async:
            raise RouteError(f"route {method} {path}: blocking=True is for plain def endpoints")
        self.method = method
        self.path = path
        self.function = function
        self.call: Callable[[Any], Any] = function
        self.measured = 0  # meters that look at it, and what it is called by without them
        self.unmeasured: Callable[[Any], Any] = function
        self.blocking = blocking
        self.inline = not is_async and not blocking
        self.name = f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
        self.options = options

    def parameters(self) -> list[tuple[str, str]]:
        """The names and converters of the path's parameters, in order."""
        return [part for part in parse_path(self.path) if not isinstance(part, str)]

    def route(self) -> str:
        """What it is called: ``GET /users/{id}``; nothing where none was declared."""
        return "" if self.method == "*" else f"{self.method} {self.path}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.method} {self.path} {self.name}>"


Methods = dict[bytes, Endpoint]
Match = tuple[Methods, dict[str, Any]]

# Resolved targets remembered at most, and the longest one: a scanner of random paths
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
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise RouteError(f"prefix {prefix!r}: expected a leading slash and no trailing one")
        self.prefix = prefix
        self.endpoints: list[Endpoint] = []

    def route(
        self, method: str, path: str, *, blocking: bool = False, **options: Any
    ) -> Callable[[F], F]:
        """Declare an endpoint for `method` and `path`.

        `blocking` runs a plain ``def`` in the thread pool. `options` describe it for
        OpenAPI: ``summary``, ``description``, ``tags``, and ``status``, which is also what
        plain data is answered with. Raises RouteError.
        """
        method = method.upper()
        if not _METHOD.fullmatch(method) or method == "CONNECT":
            raise RouteError(f"route {path!r}: method {method!r} cannot be routed")
        path = self.prefix + path
        names = {part[0] for part in parse_path(path) if not isinstance(part, str)}
        status = options.get("status", 200)
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise RouteError(f"route {method} {path}: status={status!r}: expected 200 to 599")

        def declare(function: F) -> F:
            if any(e.method == method and e.path == path for e in self.endpoints):
                raise RouteError(f"route {method} {path}: declared twice")
            check_request(method, path, function, names)
            self.endpoints.append(Endpoint(method, path, function, blocking, options))
            return function

        return declare

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

    def include(self, other: Routes) -> None:
        """Add the endpoints of `other`, under this table's prefix."""
        for endpoint in other.endpoints:
            self.route(
                endpoint.method, endpoint.path, blocking=endpoint.blocking, **endpoint.options
            )(endpoint.function)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.endpoints)

    def __len__(self) -> int:
        return len(self.endpoints)


def parse_path(path: str) -> list[str | tuple[str, str]]:
    """Split a path into literals and (name, converter) pairs; RouteError if it is no path."""
    if not path.startswith("/"):
        raise RouteError(f"route {path!r}: expected a leading slash")
    parts: list[str | tuple[str, str]] = []
    names: set[str] = set()
    segments = path[1:].split("/")
    for place, segment in enumerate(segments):
        found = _PARAMETER.fullmatch(segment)
        if found is None:
            if "{" in segment or "}" in segment or "?" in segment or "#" in segment:
                raise RouteError(f"route {path!r}: segment {segment!r}: expected text or {{name}}")
            parts.append(unquote(segment))
            continue
        name, converter = found.group(1), found.group(2) or "str"
        if converter not in CONVERTERS:
            raise RouteError(f"route {path!r}: converter {converter!r}: expected one of "
                             f"{', '.join(CONVERTERS)}")
        if name in names:
            raise RouteError(f"route {path!r}: {{{name}}} appears twice")
        if converter == "path" and place != len(segments) - 1:
            raise RouteError(f"route {path!r}: {{{name}:path}}: expected as the last segment")
        names.add(name)
        parts.append((name, converter))
    return parts


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
        rank = _ORDER.index(converter)
        for known, _, child in node.parameters:
            if known == rank:
                return child
        child = _Node()
        node.parameters.append((rank, CONVERTERS[converter], child))
        node.parameters.sort(key=lambda entry: entry[0])
        return child

    def resolve(self, target: bytes) -> Match:
        """The methods at `target` (its query is ignored), none if it is no route's.

        What is found is remembered in ``known``; whoever uses it copies the parameters.
        """
        path = target.partition(b"?")[0]
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
        if len(target) <= _LONGEST:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[target] = methods, match_info
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
