"""What an endpoint is given beside its request and its data: connections, and dependencies.

Rules:

- A parameter asks by its annotation, ``Annotated[T, provider]``. A provider is :class:`Depends`, or
  has its shape: ``key(parameter)``, and ``provide(parameter, container)``, which returns what opens
  the argument of one request, an async context manager. Engines' are such.
- Of each key there is one in a request, made when first asked for, and closed after the endpoint
  has returned or raised, the last one first. It sees the exception.
- What is asked for is found out at start, so that who asks for nothing pays nothing.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Annotated, Any

from apihour_http.errors import RouteError
from apihour_http.routing.signatures import hints_of

__all__ = ["Asked", "Depends", "asked_by", "asked_of", "provider_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Depends:
    """``Annotated[User, Depends(current_user)]``: what ``current_user(request)`` returns or yields.

    The function may be ``def`` or ``async def``; a generator yields its value, and cleans up
    behind the ``yield``. It takes the request, or nothing, and further parameters that ask in the
    same way. Within one request it is called once.
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise RouteError(f"Depends({ascii(self.function)[:100]}): expected a function")

    def key(self, parameter: str) -> Hashable:
        """What tests override it by: the function."""
        return self.function


@dataclass(frozen=True)
class Asked:
    """A parameter, and what provides its argument."""

    parameter: str
    provider: Any

    @property
    def key(self) -> Hashable:
        """What its argument is known by in a request."""
        key: Hashable = self.provider.key(self.parameter)
        return key


def provider_of(hint: Any) -> Any:
    """The provider in an annotation, or None.

    Raises ValueError for a class of them, and for one that stands where nobody looks for it.
    """
    if _is_provider(hint) or (typing.get_origin(hint) is not Annotated and any(
            map(provider_of, typing.get_args(hint)))):
        raise ValueError(f"{hint!r:.100}: expected Annotated[…] around the whole type, and in it "
                         "what asks, behind the type")
    if typing.get_origin(hint) is not Annotated:
        return None
    for item in typing.get_args(hint)[1:]:
        if _is_provider(item):
            if isinstance(item, type):
                raise ValueError(f"{item.__name__}: expected {item.__name__}(…), not the class")
            return item
    return None


def _is_provider(item: Any) -> bool:
    return callable(getattr(item, "key", None)) and (
        isinstance(item, Depends) or item is Depends or callable(getattr(item, "provide", None)))


def asked_of(route: str, function: Callable[..., Any]) -> tuple[bool, list[Asked]]:
    """Whether a dependency takes the request, and what it asks for. Raises RouteError."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        declared = inspect.signature(function).parameters
        target = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
        hints = hints_of(route, target, True)
    except (TypeError, ValueError) as error:
        raise RouteError(f"{route}: {name}: {error}; expected a function") from None
    found: list[Asked] = []
    takes_request = False
    for place, (parameter, one) in enumerate(declared.items()):
        provider = _provider(route, name, one, hints)
        if provider is not None:
            found.append(Asked(parameter, provider))
        elif place == 0 and one.kind in _POSITIONAL and one.default is one.empty:
            takes_request = True
        elif one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise RouteError(f"{route}: parameter {parameter!r} of {name}: expected Annotated[…, "
                             "Depends(…)], or the request as the first")
    return takes_request, found


def _provider(route: str, name: str, one: inspect.Parameter, hints: dict[str, Any]) -> Any:
    try:
        provider = provider_of(hints.get(one.name))
        if provider is None and _is_provider(one.default):
            raise ValueError(f"asks by its default; expected Annotated[…, "
                             f"{type(one.default).__name__}(…)]")
        if provider is not None and one.kind not in (
                one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise ValueError(f"is {one.kind.description}; expected one that is given by its name")
    except ValueError as error:
        raise RouteError(f"{route}: parameter {one.name!r} of {name}: {error}") from None
    return provider


def asked_by(
    route: str, function: Callable[..., Any], names: list[str], first: str
) -> tuple[Asked, ...]:
    """What the parameters of an endpoint ask for; its `first` is the request. Raises RouteError."""
    name = getattr(function, "__qualname__", repr(function))
    hints, declared = hints_of(route, function, True), inspect.signature(function).parameters
    if provider_of(hints.get(first)) is not None:
        raise RouteError(f"route {route}: {name}: expected the request before {first!r}, as its "
                         "first parameter")
    found = ((one, _provider(f"route {route}", name, declared[one], hints)) for one in names)
    return tuple(Asked(one, provider) for one, provider in found if provider is not None)
