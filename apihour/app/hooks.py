"""Calling the hooks of a user's container, and saying whose fault a failure is."""

from __future__ import annotations

import asyncio
import inspect
import linecache
import re
from typing import Any

from apihour.blame import blame
from apihour.errors import ApihourError, HookError
from apihour.plugins import Server

__all__ = [
    "call_class", "call_hook", "cannot_start", "hook_title", "make_loop", "see_hooks",
    "takes_sockets",
]

# Every hook of a container and what it is called with, as its author writes it.
_SHAPES = {
    "__init__": "(self, config, worker, loop)",
    "make_event_loop": "(cls, config)",
    "pre_start": "(self)",
    "make_engines": "(self)",
    "make_servers": "(self)",
    "start": "(self)",
    "shutdown": "(self)",
    "cleanup": "(self)",
}
_BEFORE_LEAVING = ("pre_start", "make_engines", "make_servers", "start", "shutdown", "cleanup")


def hook_title(cls: type[Any], name: str) -> str:
    """A hook as failures name it: ``container module:Container: start()``."""
    return f"container {cls.__module__}:{cls.__qualname__}: {name}()"


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
        raise _failed(type(container), name, error) from error
    return result


def call_class(cls: type[Any], name: str, **keywords: Any) -> Any:
    """Make the container (``__init__``) or call a class method of it; errors as above."""
    _see_hook(cls, cls, name, **keywords)
    try:
        return cls(**keywords) if name == "__init__" else getattr(cls, name)(**keywords)
    except ApihourError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(cls, name, error) from error


def make_loop(cls: type[Any], config: dict[str, Any]) -> asyncio.AbstractEventLoop:
    """The event loop of ``make_event_loop()``. Raises HookError, also when it made none."""
    loop = call_class(cls, "make_event_loop", config=config)
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise HookError(
            f"{hook_title(cls, 'make_event_loop')} returned {loop!r} "
            f"({_place(cls, 'make_event_loop')}); expected an event loop, like "
            "asyncio.new_event_loop()")
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
    expected = f"def {name}{_SHAPES.get(name, '(self)')}"
    if not callable(hook):
        raise HookError(f"container {cls.__module__}:{cls.__qualname__}: {name} = {hook!r} "
                        f"({_place(cls, name)}); expected a method, {expected}")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return  # nobody can tell
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        raise HookError(f"{hook_title(cls, name)} cannot be called: {error} "
                        f"({_place(cls, name)}); expected {expected}") from error


def _place(cls: type[Any], name: str) -> str:
    """``file:line: text`` of where a class of the user's says what `name` is."""
    owner = next((one for one in cls.__mro__ if name in vars(one)), cls)
    found = vars(owner).get(name)
    function = inspect.unwrap(getattr(found, "__func__", found)) if found is not None else None
    code = getattr(function, "__code__", None)
    if code is not None:
        path, line = code.co_filename, code.co_firstlineno
        while linecache.getline(path, line).lstrip().startswith("@"):
            line += 1  # the first line is a decorator's
    else:
        path, line = _assigned(owner, name)
    text = linecache.getline(path, line).strip()
    return f"{path}:{line}: {text}" if text else f"{path}:{line}"


def _assigned(cls: type[Any], name: str) -> tuple[str, int]:
    """File and line where the body of a class gives `name` a value, else where it begins."""
    try:
        path = inspect.getsourcefile(cls) or "?"
        lines, first = inspect.getsourcelines(cls)
    except (OSError, TypeError):
        return "?", 0
    for offset, text in enumerate(lines):
        if re.match(rf"\s+{re.escape(name)}\s*[:=]", text):
            return path, first + offset
    return path, first


def _failed(cls: type[Any], name: str, error: BaseException) -> HookError:
    return HookError(f"{hook_title(cls, name)} failed: {blame(error)}")


def takes_sockets(container: Any) -> bool:
    """Whether ``make_servers`` is of the ancestor's form, ``async make_servers(sockets)``."""
    hook = container.make_servers
    return callable(hook) and bool(inspect.signature(hook).parameters)


def cannot_start(name: str, server: Server, error: Exception) -> HookError:
    """The error that a start ends with, naming the server and what its plugin said."""
    reason = str(error) or repr(error)
    return HookError(f"server {name!r} ({server.protocol}) cannot start: {reason}")
