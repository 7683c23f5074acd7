"""Endpoints that cannot be called with a request, told where they are declared."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from apihour_http.errors import RouteError

__all__ = ["check_request", "hints_of"]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
# Annotations that no request has; as text, too, which is what they are under
# ``from __future__ import annotations``.
_DATA = (int, float, str, bool, bytes, dict, list, tuple, set)
_DATA_NAMES = frozenset(kind.__name__ for kind in _DATA)


def check_request(
    method: str, path: str, function: Callable[..., Any], in_path: set[str]
) -> None:
    """Raise RouteError unless the first parameter of `function` can be the request.

    A generator is refused too: nothing says how its pieces are meant.

    `in_path` are the names of the path's parameters: those come after it.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return  # a builtin: it says nothing
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise RouteError(
            f"route {method} {path}: {name} is a generator: expected an endpoint that returns "
            "Stream(…) or SSE(…) of an async generator, or a list")
    wanted = f"route {method} {path}: {name}{_shown(parameters)}: expected the request as its " \
             f"first parameter: {name.rpartition('.')[2]}(request{_rest(parameters)})"
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise RouteError(wanted)
    first = parameters[0]
    if first.kind is first.VAR_POSITIONAL:
        return
    annotation = first.annotation
    is_data = annotation in _DATA_NAMES if isinstance(annotation, str) else annotation in _DATA
    if is_data or first.name in in_path:
        raise RouteError(wanted)


def hints_of(route: str, function: Callable[..., Any], whole: bool = False) -> dict[str, Any]:
    """The annotations of `function`, resolved; `whole`: with what ``Annotated`` adds.

    The request's, and that of what is returned, may be for type checkers alone. Raises
    RouteError for another that cannot be resolved, TypeError for what has no annotations.
    """
    try:
        return typing.get_type_hints(function, include_extras=whole)
    except NameError:
        pass  # of which, is told by looking at one after the other
    original = inspect.unwrap(function)
    told = dict(getattr(original, "__annotations__", {}))
    first, *others = inspect.signature(function).parameters or [""]
    hints: dict[str, Any] = {}
    for name, annotation in told.items():
        one = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(
                one, getattr(original, "__globals__", {}), include_extras=whole))
        except NameError as error:
            if name == first or name not in others:
                continue
            raise RouteError(
                f"{route}: the annotation {annotation!r} of {name!r} cannot be resolved: {error}; "
                "expected a name of its module, imported not only for type checkers") from None
    return hints


def _shown(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(map(str, parameters))})"


def _rest(parameters: list[inspect.Parameter]) -> str:
    return "".join(f", {parameter}" for parameter in parameters)
