"""From ``module:name`` to the container class, and what is no application.

Rules:

- Only workers, the probe child, ``check`` and ``dev`` call this: the arbiter must not keep
  application code imported, or a reload would not see new code.
- A failure is one line that ends with the user's own file, line and text.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import types
from typing import Any, get_args

from apihour.app.container import Container
from apihour.app.forks import in_one_process
from apihour.blame import blame
from apihour.config.naming import split_target
from apihour.errors import TargetError
from apihour.mistakes import hint
from apihour.plugins import Registry, SocketKind, is_server

__all__ = ["load_target"]


def load_target(target: str, factory: bool = False) -> type[Container]:
    """Import the target and return its container class.

    With `factory`, or where the name ends with ``()``, the target is a function without
    arguments that makes the application; an ``async def`` of that shape can be nothing else. A
    bare application (anything but a subclass of Container) is wrapped in a container whose
    only server it is. Raises TargetError with one line.
    """
    module_name, name = split_target(target)
    factory, name = factory or name.endswith("()"), name.removesuffix("()")
    with in_one_process(f"import of {target!r}"):
        found = _import(target, module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            have = sorted(key for key in vars(found) if not key.startswith("_"))
            raise TargetError(
                f"target {target!r}: {module_name!r} ({getattr(found, '__file__', '?')}) has no "
                f"{part!r}; it has {', '.join(have[:12]) or 'nothing public'}"
            )
        found = getattr(found, part)
    if factory:
        _see_factory(target, found)
    elif isinstance(found, type) and issubclass(found, Container):
        return found
    if factory or (inspect.iscoroutinefunction(found) and required_arguments(found) == 0):
        return wrap_factory(found, name)
    _refuse_no_application(target, found)
    _refuse_any_function(target, found)
    return wrap_application(found, name)


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
    is_function = isinstance(found, types.FunctionType) and not required_arguments(found)
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


def required_arguments(found: Any) -> int:
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
    if is_container or not callable(found) or required_arguments(found):
        what = "a container, which needs none" if is_container else f"{found!r}"
        raise TargetError(f"target {target!r} with --factory: {what}; expected a function without "
                          "arguments that makes the application")


def _makes_protocols(function: Any) -> bool:
    try:
        made = inspect.signature(function, eval_str=True).return_annotation
    except Exception:  # an annotation is any expression of the user's
        return False
    return isinstance(made, type) and issubclass(made, asyncio.BaseProtocol)


def wrap_application(application: Any, name: str) -> type[Container]:
    """Return a container class that serves one bare application."""

    class Bare(Container):
        __doc__ = f"The application {name}, served without a container of its own."

        def make_servers(self) -> dict[str, Any]:
            return {"http": application}

    return Bare


def wrap_factory(factory: Any, name: str) -> type[Container]:
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


def _import(target: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            where = ", ".join(repr(path) for path in sys.path[:1]) or "sys.path"
            raise TargetError(
                f"target {target!r}: no module named {error.name!r}, looked in {where}"
            ) from error
        raise TargetError(f"target {target!r}: {blame(error)}") from error
    except SyntaxError as error:
        raise TargetError(
            f"target {target!r}: {error.filename}:{error.lineno}: SyntaxError: {error.msg}: "
            f"{(error.text or '').strip()}"
        ) from error
    except (Exception, SystemExit) as error:
        raise TargetError(f"target {target!r}: {blame(error)}") from error
