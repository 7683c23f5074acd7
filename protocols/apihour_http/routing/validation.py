"""Endpoints that name what they want: arguments decoded and checked from their annotations.

Rules, for every parameter after the request:

- named like a path parameter: its value, as the annotation says;
- annotated with what provides it (``depends``): that;
- annotated with a msgspec Struct or a dataclass: decoded from the JSON body, or from the
  query when the parameter is called ``query``;
- annotated with something made of these (``Item | None``, ``list[Item]``): from the body;
- anything else annotated: one parameter of the query, with the default it declares.

A value that does not fit is answered 422 with the path of the fault (RFC 9110 15.5.21).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from apihour_http.errors import HTTPError, RouteError
from apihour_http.routing.depends import Asked, asked_by
from apihour_http.routing.paths import parameters_of
from apihour_http.routing.signatures import hints_of
from apihour_http.speed import compiled

if TYPE_CHECKING:
    from apihour_http.endpoint import Endpoint
    from apihour_http.request import Request

__all__ = ["Argument", "Plan", "plan"]

# What nearly every client writes: told without making the header mapping.
_USUAL = frozenset({b"application/json", b"application/json; charset=utf-8"})
_LONG = 19  # digits from which on a number may be refused
_JSON_TYPES = ("application/json", "application/octet-stream")


@dataclass(frozen=True)
class Argument:
    """One argument of an endpoint: where it comes from (path, query, fields or body)."""

    name: str
    source: str
    kind: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Plan:
    """How the arguments of one endpoint are made, and what it says it returns."""

    parameters: tuple[Argument, ...]
    returns: Any
    asked: tuple[Asked, ...] = ()
    """Those that are provided for each request."""
    in_order: bool = False
    """Whether they are what stands behind the request, and may be given without their names."""

    def readers(self) -> list[tuple[str, Callable[[Request], Any]]]:
        """What reads the arguments from a request, by name."""
        return [(p.name, _READERS[p.source](p)) for p in self.parameters]

    def wrap(self, function: Callable[..., Any]) -> Callable[[Request], Any]:
        """Return a callable of the request alone, which returns what `function` returns.

        Of an async `function` that is its coroutine: a second one around it would cost.
        """
        readers = self.readers()
        reads = [read for _, read in readers]
        if self.in_order and len(reads) == 1:
            only, = reads

            @functools.wraps(function)
            def call_with_one(request: Request) -> Any:
                return function(request, only(request))

            return call_with_one
        if self.in_order and len(reads) == 2:
            first, second = reads

            @functools.wraps(function)
            def call_with_two(request: Request) -> Any:
                return function(request, first(request), second(request))

            return call_with_two

        @functools.wraps(function)
        def call(request: Request) -> Any:
            return function(request, **{name: read(request) for name, read in readers})

        return call


def is_model(kind: Any) -> bool:
    """Whether `kind` is a msgspec Struct or a dataclass (msgspec is not imported for it)."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__"))


def _holds_model(kind: Any) -> bool:
    """Whether a value of `kind` is a model, or may have one within."""
    return (
        is_model(kind) or is_model(typing.get_origin(kind))
        or any(map(_holds_model, typing.get_args(kind))))


def plan(endpoint: Endpoint) -> Plan | None:
    """The plan of an endpoint, None when it only takes the request.

    Raises RouteError for a parameter without annotation or with one that cannot be resolved,
    and for a second body; ImportError naming the extra when msgspec is missing.
    """
    function = endpoint.function
    try:
        signature = inspect.signature(function)
        hints = hints_of(endpoint.route(), function)
    except (TypeError, ValueError) as error:
        if isinstance(error, RouteError):
            raise
        return None  # a builtin, or an object that is called: it says nothing
    first, *names = signature.parameters or [""]
    if is_model(hints.get(first)):
        raise RouteError(f"route {endpoint.route()}: {endpoint.name}: expected the request "
                         f"before {first!r}, as its first parameter")
    asked = asked_by(endpoint.route(), function, names, first)
    if not names:
        return None
    provided = {one.parameter for one in asked}
    parameters = [found for name in names if name not in provided
                  and (found := _argument(endpoint, signature.parameters[name], hints))]
    if parameters:
        msgspec()
    _check_bodies(endpoint, parameters)
    return Plan(tuple(parameters), hints.get("return"), asked,
                _in_order(function, [one.name for one in parameters]))


def _in_order(function: Callable[..., Any], names: list[str]) -> bool:
    """Whether `function` itself, and not what it wraps, takes these right behind the request."""
    declared = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    taken = declared[1:len(names) + 1]
    return [one.name for one in taken] == names and all(
        one.kind is one.POSITIONAL_OR_KEYWORD for one in taken)


def _argument(
    endpoint: Endpoint, declared: inspect.Parameter, hints: dict[str, Any]
) -> Argument | None:
    """Where an argument is read from; None where its parameter's default will do."""
    name = declared.name
    if declared.kind in (declared.VAR_POSITIONAL, declared.VAR_KEYWORD):
        return None
    in_path = {name for name, _ in parameters_of(endpoint.path)}
    if name not in hints and name not in in_path:
        if declared.default is not declared.empty:
            return None
        raise RouteError(f"route {endpoint.route()}: parameter {name!r} of {endpoint.name}: "
                         f"expected an annotation, or a path with {{{name}}}")
    if declared.kind is declared.POSITIONAL_ONLY:
        raise RouteError(f"route {endpoint.route()}: parameter {name!r} of {endpoint.name}: is "
                         f"{declared.kind.description}; expected one that is given by its name")
    kind = hints.get(name, Any)
    source = "path" if name in in_path else "query"
    if source == "query" and _holds_model(kind):
        source = "fields" if name == "query" and is_model(kind) else "body"
    return Argument(name, source, kind, declared.default)


def _check_bodies(endpoint: Endpoint, parameters: list[Argument]) -> None:
    """Raise RouteError where more than one parameter would be the body, or it is not there yet."""
    bodies = [parameter.name for parameter in parameters if parameter.source == "body"]
    if bodies and endpoint.streams_body:
        raise RouteError(f"{endpoint.route()}: {endpoint.name}: {bodies[0]} is the body, which "
                         "with stream_body=True has not come yet: expected request.stream()")
    if len(bodies) > 1:
        raise RouteError(f"{endpoint.route()}: {endpoint.name}: {' and '.join(bodies)} are both "
                         "the body: expected one, and what belongs together in one struct")


def msgspec() -> Any:
    """The msgspec module. Raises ImportError naming the extra."""
    try:
        return importlib.import_module("msgspec")
    except ImportError as error:
        raise ImportError(
            "endpoints with annotated parameters need msgspec: pip install apihour[validation]"
        ) from error


def _fault(error: Exception, where: str) -> HTTPError:
    """422 with the path that msgspec's message names (``... - at `$.items[0].price```)."""
    message, _, path = str(error).partition(" - at `")
    return HTTPError(
        422, f"{where}: {message}",
        errors=[{"path": path.rstrip("`") or "$", "in": where, "message": message}])


def _read_path(parameter: Argument) -> Callable[[Request], Any]:
    convert, invalid = msgspec().convert, msgspec().ValidationError
    name, kind = parameter.name, parameter.kind

    def read(request: Request) -> Any:
        value = request.match_info[name]
        if type(value) is kind:  # "{name:int}" has made it already, or it is text
            return value
        try:
            return convert(value, kind, strict=False)
        except invalid as error:
            raise _fault(error, f"path.{name}") from None

    return read


def _read_query(parameter: Argument) -> Callable[[Request], Any]:
    convert, invalid = msgspec().convert, msgspec().ValidationError
    name, kind = parameter.name, parameter.kind
    many = typing.get_origin(kind) in (list, set, tuple, frozenset)
    sent_as = name.encode()
    # One value of a query that nobody else reads: it is not taken apart for that.
    quick = not many and name.isascii()
    is_int = kind is int

    def read(request: Request) -> Any:
        value: Any = request.parameter(sent_as) if quick else False
        if value is False:
            values = request.query.held(name)
            value = values if many or values is None else values[-1]
        if value is None:
            if parameter.required:
                raise HTTPError(
                    422, f"query.{name}: missing",
                    errors=[{"path": "$", "in": f"query.{name}", "message": "missing"}])
            return parameter.default
        if (is_int and value.isdecimal() and value.isascii() and value[0] != "0"
                and len(value) < _LONG):
            return int(value)  # as below, in half of the time
        try:
            return convert(value, kind, strict=False)
        except invalid as error:
            raise _fault(error, f"query.{name}") from None

    if compiled is not None and is_int and quick:
        return cast("Callable[[Request], Any]", compiled.QueryNumber(sent_as, read))
    return read


def _read_fields(parameter: Argument) -> Callable[[Request], Any]:
    convert, invalid = msgspec().convert, msgspec().ValidationError
    hints = typing.get_type_hints(parameter.kind)
    lists = {
        name for name, kind in hints.items()
        if typing.get_origin(kind) in (list, set, tuple, frozenset)
    }

    def read(request: Request) -> Any:
        query = request.query
        data = {
            name: query.getall(name) if name in lists else query.getall(name)[-1]
            for name in set(query)
        }
        try:
            return convert(data, parameter.kind, strict=False)
        except invalid as error:
            raise _fault(error, "query") from None

    return read


def _read_body(parameter: Argument) -> Callable[[Request], Any]:
    library = msgspec()
    decode = library.json.Decoder(parameter.kind).decode

    def read(request: Request) -> Any:
        if not request.body and not parameter.required:
            return parameter.default
        if request.field(b"content-type") not in _USUAL:
            kind = request.content_type
            if kind not in _JSON_TYPES and not kind.endswith("+json"):
                raise HTTPError(415, f"{kind}: expected application/json")
        try:
            return decode(request.body)
        except library.ValidationError as error:
            raise _fault(error, "body") from None
        except (library.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPError(400, f"the body is not JSON: {error}") from None

    return read


_READERS: dict[str, Callable[[Argument], Callable[[Request], Any]]] = {
    "path": _read_path, "query": _read_query, "fields": _read_fields, "body": _read_body,
}
