"""A bare application, or a function that makes one, in a container of its own; and what is neither.

Rule: nothing of the user's is called before its worker serves; shapes are judged.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from typing import Any, get_args

from apihour.app.container import Container
from apihour.errors import TargetError
from apihour.mistakes import hint
from apihour.plugins import Registry, SocketKind, is_server

__all__ = ["contained"]


def contained(target: str, found: Any, name: str, factory: bool) -> type[Container]:
    """The container class whose only server is what the target leads to, or makes (`factory`).

    An ``async def`` without arguments can be nothing but a factory. Raises TargetError.
    """
    if factory:
        _see_factory(target, found)
    if factory or (inspect.iscoroutinefunction(found) and _required_arguments(found) == 0):
        return _wrap_factory(found, name)
    _refuse_no_application(target, found)
    _refuse_any_function(target, found)
    return _wrap_application(found, name)


def _refuse_no_application(target: str, found: object) -> None:
    """Raise TargetError for what no plugin would serve under any name."""
    registry = Registry.from_entry_points()
    if registry.unusable:
        return  # one of those may be what serves it; adapting it says why they cannot
    kinds: tuple[SocketKind, ...] = get_args(SocketKind)
    if any(is_server(found, kind) or registry.accepts(found, kind) for kind in kinds):
        return
    if isinstance(found, Container):
        name = type(found).__name__
        raise TargetError(f"target {target!r}: an instance of {name}; expected the class: {name}")
    if known := hint(found, None, registry.accepts):
        raise TargetError(f"target {target!r}: {known}")
    what = f"an object of type {type(found).__name__}"
    if isinstance(found, type):
        what = f"the class {found.__name__}, which is no container"
    served = ", ".join(plugin.name for plugin in registry) or "none is installed"
    raise TargetError(f"target {target!r}: {what}; expected a subclass of apihour.Container, "
                      f"or an application for one of the plugins ({served})")


def _refuse_any_function(target: str, found: Any) -> None:
    """Raise TargetError for a function whose shape alone would make it a protocol factory.

    ``def create_app()`` has the same shape. One that is annotated to return a protocol is
    one, and in ``make_servers()`` whoever writes it there has said so.
    """
    is_function = isinstance(found, types.FunctionType) and not _required_arguments(found)
    if not is_function or _makes_protocols(found):
        return
    registry = Registry.from_entry_points()
    kinds: tuple[SocketKind, ...] = get_args(SocketKind)
    takers = [(plugin, kind) for kind in kinds for plugin in registry
              if plugin.accepts(found, kind)]
    by_shape = [taker for taker, kind in takers if taker.accepts(_makes_anything, kind)]
    if not takers or len(by_shape) < len(takers):
        return
    raise TargetError(
        f"target {target!r}: {found.__name__}() is a function without arguments, which may make "
        "an application or a protocol; expected the application itself, --factory with a function "
        "that makes it, one annotated to return an asyncio.Protocol, or a subclass of "
        "apihour.Container")


def _makes_anything() -> None:
    """A function that only its shape speaks for."""


def _required_arguments(found: Any) -> int:
    """How many arguments a callable must be given; 1 where nobody can tell."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
               for p in parameters)


def _see_factory(target: str, found: Any) -> None:
    """Raise TargetError for what --factory cannot mean."""
    is_container = isinstance(found, type) and issubclass(found, Container)
    if is_container or not callable(found) or _required_arguments(found):
        what = "a container, which needs none" if is_container else f"{found!r}"
        raise TargetError(f"target {target!r} with --factory: {what}; expected a function without "
                          "arguments that makes the application")


def _makes_protocols(function: Any) -> bool:
    try:
        made = inspect.signature(function, eval_str=True).return_annotation
    except Exception:  # an annotation is any expression of the user's
        return False
    return isinstance(made, type) and issubclass(made, asyncio.BaseProtocol)


def _wrap_application(application: Any, name: str) -> type[Container]:
    """Return a container class that serves one bare application."""

    class Bare(Container):
        __doc__ = f"The application {name}, served without a container of its own."

        def make_servers(self) -> dict[str, Any]:
            return {"http": application}

    return Bare


def _wrap_factory(factory: Any, name: str) -> type[Container]:
    """Return a container class that serves what `factory` makes, in each worker anew."""

    class Made(Container):
        __doc__ = f"What {name}() makes, served without a container of its own."

        async def make_servers(self) -> dict[str, Any]:
            made = factory()
            if inspect.isawaitable(made):
                made = await made
            if made is None or isinstance(made, Container | type):
                raise TargetError(f"{name}() made {made!r}; expected an application")
            return {"http": made}

    # As failures name it.
    Made.__module__, Made.__qualname__ = getattr(factory, "__module__", __name__), name
    return Made
