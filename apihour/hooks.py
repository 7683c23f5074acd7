"""Calling the hooks of a user's container, and saying whose fault a failure is."""

from __future__ import annotations

import inspect
from typing import Any

from apihour.blame import blame
from apihour.errors import ApihourError, HookError

__all__ = ["call_class", "call_hook", "hook_title", "takes_sockets"]


def hook_title(cls: type[Any], name: str) -> str:
    """A hook as failures name it: ``container module:Container: start()``."""
    return f"container {cls.__module__}:{cls.__qualname__}: {name}()"


async def call_hook(container: Any, name: str, *args: Any) -> Any:
    """Call ``container.name(*args)``, awaiting it when it is async; return its result.

    Raises HookError saying which container, which hook and why.
    """
    try:
        result = getattr(container, name)(*args)
        if inspect.isawaitable(result):
            result = await result
    except ApihourError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(type(container), name, error) from error
    return result


def call_class(cls: type[Any], name: str, **keywords: Any) -> Any:
    """Make the container (``__init__``) or call a class method of it; errors as above."""
    try:
        return cls(**keywords) if name == "__init__" else getattr(cls, name)(**keywords)
    except ApihourError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(cls, name, error) from error


def _failed(cls: type[Any], name: str, error: BaseException) -> HookError:
    return HookError(f"{hook_title(cls, name)} failed: {blame(error)}")


def takes_sockets(container: Any) -> bool:
    """Whether ``make_servers`` is of the ancestor's form, ``async make_servers(sockets)``."""
    return bool(inspect.signature(container.make_servers).parameters)
