"""What a callable is: a protocol factory, a stream callback, or neither.

Rules:

- :func:`classify` judges by shape only: it calls nothing and imports nothing.
- It says None rather than guess: three parameters are ASGI's, two of a plain function
  may be WSGI's, one may be a request handler's.
- A protocol is what asyncio takes for one: it has the methods a transport calls, whatever it
  derives from.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Shape", "classify", "describe", "is_protocol", "origin", "promises",
           "required_positionals"]

Shape = Literal["stream", "datagram", "factory", "callback"]

_STREAM = (asyncio.Protocol, asyncio.BufferedProtocol)
# What the loop calls, and how many arguments it gives beside self. By the number: a session of
# another library may have a data_received() of its own.
_CALLED = {"stream": ("data_received", 1), "datagram": ("datagram_received", 2)}
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
    kinds = [kind for kind in ("stream", "datagram") if _serves(cls, kind)]
    if len(kinds) == 2:
        return "factory"  # a class for both, like pymodbus': the bind decides
    return kinds[0] if kinds else None  # type: ignore[return-value]


def _serves(cls: type, kind: str) -> bool:
    """Whether instances of `cls` have what a transport of that kind calls."""
    if issubclass(cls, _STREAM if kind == "stream" else asyncio.DatagramProtocol):
        return True
    name, count = _CALLED[kind]
    received = getattr(cls, name, None)
    if not callable(received) or not callable(getattr(cls, "connection_made", None)):
        return False
    return required_positionals(received) in (count + 1, None)


def is_protocol(obj: object, kind: str) -> bool:
    """Whether a transport of that kind, ``stream`` or ``datagram``, can drive `obj`."""
    return not isinstance(obj, type) and _serves(type(obj), kind)


def promises(factory: object, kind: str) -> bool:
    """Whether it is known without calling `factory` that it makes protocols of that kind.

    Of a class it is, and of a function annotated to return one.
    """
    called = factory
    while isinstance(called, functools.partial):
        called = called.func
    if not isinstance(called, type):
        try:
            called = inspect.signature(called, eval_str=True).return_annotation  # type: ignore[arg-type]
        except Exception:  # an annotation is any expression of the user's
            return False
    return isinstance(called, type) and called is not inspect.Signature.empty and _serves(
        called, kind)


def classify(obj: object) -> Shape | None:
    """The shape of `obj`, an entry of ``make_servers()``.

    ``stream`` and ``datagram`` are protocol classes (or partials of one) that need no
    arguments, ``callback`` is ``async (reader, writer)``, ``factory`` a plain function that
    needs no arguments, whose result is known when it is called, or a class of both kinds.
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
