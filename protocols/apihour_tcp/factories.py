"""What a callable is: a protocol factory, a stream callback, or neither.

Rules:

- :func:`classify` judges by shape only: it calls nothing and imports nothing.
- It says None rather than guess: three parameters are ASGI's, two of a plain function
  may be WSGI's, one may be a request handler's.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Shape", "classify", "describe", "origin", "required_positionals"]

Shape = Literal["stream", "datagram", "factory", "callback"]

_STREAM = (asyncio.Protocol, asyncio.BufferedProtocol)
# Objects of other types that can be called belong to frameworks, which have own plugins.
_PLAIN = (types.FunctionType, types.MethodType, functools.partial)


def required_positionals(function: Callable[..., Any]) -> int | None:
    """How many positional arguments `function` must be given; None when nobody can tell.

    None as well when it demands keyword arguments, which no server would give it.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    required = [p for p in parameters if p.default is p.empty]
    if any(p.kind is p.KEYWORD_ONLY for p in required):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in required)


def _class_shape(cls: type) -> Shape | None:
    if issubclass(cls, _STREAM):
        return "stream"
    if issubclass(cls, asyncio.DatagramProtocol):
        return "datagram"
    return None


def classify(obj: object) -> Shape | None:
    """The shape of `obj`, an entry of ``make_servers()``.

    ``stream`` and ``datagram`` are protocol classes (or partials of one) that need no
    arguments, ``callback`` is ``async (reader, writer)``, ``factory`` a plain function that
    needs no arguments: what it returns is known when it is called.
    """
    called = obj
    while isinstance(called, functools.partial):
        called = called.func
    if isinstance(called, type):
        shape = _class_shape(called)
        return shape if callable(obj) and required_positionals(obj) == 0 else None
    if not callable(obj):
        return None
    if inspect.iscoroutinefunction(obj):
        return "callback" if required_positionals(obj) == 2 else None
    if not isinstance(obj, _PLAIN) or inspect.isasyncgenfunction(obj):
        return None
    return "factory" if required_positionals(obj) == 0 else None


def describe(obj: object) -> str:
    """A short name for log lines: ``hello.Echo``, ``hello.main.<locals>.<lambda>``."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    name = getattr(obj, "__qualname__", None)
    module = getattr(obj, "__module__", None)
    return f"{module}.{name}" if name and module else repr(obj)


def origin(error: BaseException) -> str:
    """Where `error` was raised: ``echo.py:12``, or nothing when it carries no traceback."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
