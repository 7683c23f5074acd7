"""What is wrong with a hook of a container, or with a server: where it stands, what was expected.

Rule: read where something is wrong.
"""

from __future__ import annotations

import inspect
import linecache
import re
from typing import TYPE_CHECKING, Any

from apihour.blame import blame
from apihour.config.naming import hook_title
from apihour.errors import HookError

if TYPE_CHECKING:
    from apihour.plugins import Server

__all__ = ["cannot_start", "failed", "no_loop", "uncallable"]

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


def uncallable(
    hook: Any, cls: type[Any], name: str, error: BaseException
) -> HookError | None:
    """The error of one that cannot be called so; None where nobody can tell."""
    expected = f"def {name}{_SHAPES.get(name, '(self)')}"
    if not callable(hook):
        return HookError(f"container {cls.__module__}:{cls.__qualname__}: {name} = {hook!r} "
                         f"({_place(cls, name)}); expected a method, {expected}")
    try:
        inspect.signature(hook)
    except (TypeError, ValueError):
        return None
    return HookError(f"{hook_title(cls, name)} cannot be called: {error} "
                     f"({_place(cls, name)}); expected {expected}")


def no_loop(cls: type[Any], made: object) -> HookError:
    """``make_event_loop()`` returned something else."""
    return HookError(
        f"{hook_title(cls, 'make_event_loop')} returned {made!r} "
        f"({_place(cls, 'make_event_loop')}); expected an event loop, like "
        "asyncio.new_event_loop()")


def cannot_start(name: str, server: Server, error: Exception) -> HookError:
    """The error that a start ends with, naming the server and what its plugin said."""
    reason = str(error) or repr(error)
    return HookError(f"server {name!r} ({server.protocol}) cannot start: {reason}")


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


def failed(cls: type[Any], name: str, error: BaseException) -> HookError:
    """What a hook raised, with the user's file, line and text."""
    return HookError(f"{hook_title(cls, name)} failed: {blame(error)}")
