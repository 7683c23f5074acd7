"""Calling the hooks of a user's container; whose fault a failure is: ``hook_faults.py``."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from apihour.errors import ApihourError

__all__ = ["call_class", "call_hook", "make_loop", "see_hooks", "takes_sockets"]

_BEFORE_LEAVING = ("pre_start", "make_engines", "make_servers", "start", "shutdown", "cleanup")


async def call_hook(container: Any, name: str, *args: Any) -> Any:
    """Call ``container.name(*args)``, awaiting it when it is async; return its result.

    Raises HookError saying which container, which hook and why.
    """
    _see_hook(container, type(container), name, *args)
    try:
        result = getattr(container, name)(*args)
        if inspect.isawaitable(result):
            result = await result
    except ApihourError:
        raise
    except (Exception, SystemExit) as error:
        from apihour.app.hook_faults import failed  # read where one fails only

        raise failed(type(container), name, error) from error
    return result


def call_class(cls: type[Any], name: str, **keywords: Any) -> Any:
    """Make the container (``__init__``) or call a class method of it; errors as above."""
    _see_hook(cls, cls, name, **keywords)
    try:
        return cls(**keywords) if name == "__init__" else getattr(cls, name)(**keywords)
    except ApihourError:
        raise
    except (Exception, SystemExit) as error:
        from apihour.app.hook_faults import failed

        raise failed(cls, name, error) from error


def make_loop(cls: type[Any], config: dict[str, Any]) -> asyncio.AbstractEventLoop:
    """The event loop of ``make_event_loop()``. Raises HookError, also when it made none."""
    loop = call_class(cls, "make_event_loop", config=config)
    if not isinstance(loop, asyncio.AbstractEventLoop):
        from apihour.app.hook_faults import no_loop

        raise no_loop(cls, loop)
    return loop


def see_hooks(container: Any) -> None:
    """See that every hook can be called, also those whose time comes at the end.

    Raises HookError naming the one that cannot, with the user's file and line.
    """
    for name in _BEFORE_LEAVING:
        if name == "make_servers" and takes_sockets(container):
            _see_hook(container, type(container), name, [])
        else:
            _see_hook(container, type(container), name)


def _see_hook(owner: Any, cls: type[Any], name: str, *args: Any, **keywords: Any) -> None:
    """Raise HookError when the call would fail before the user's first line."""
    hook = owner if name == "__init__" else getattr(owner, name, None)
    try:
        inspect.signature(hook).bind(*args, **keywords)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        from apihour.app.hook_faults import uncallable  # read where something is wrong only

        if (known := uncallable(hook, cls, name, error)) is not None:
            raise known from error


def takes_sockets(container: Any) -> bool:
    """Whether ``make_servers`` is of the ancestor's form, ``async make_servers(sockets)``."""
    hook = container.make_servers
    return callable(hook) and bool(inspect.signature(hook).parameters)
