"""Exceptions that reach nobody: of protocols, callbacks, tasks and threads, named and logged.

Rules:

- Nothing is paid for until something fails: who it was is read from the exception's frames
  and the transport in it.
- A peer that makes the same line fail again and again is counted, not quoted each time.
- An application's own handler (``loop.set_exception_handler``) wins.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Protocol, TextIO

from apihour.bind.peers import format_peer
from apihour.blame import blame
from apihour.config.rootlog import SERVER
from apihour.ipc.private import context_of

__all__ = ["CrashLog", "EarlyExit"]

_FULL = 5  # failures of one kind that are told in full within a period
_PERIOD = 10.0  # seconds
_KINDS = 200  # kinds of failure that are counted at a time
_LONGEST = 300  # characters of a value shown


class EarlyExit(SystemExit):
    """Raised by a signal to a worker that has no loop yet, wherever it is at that moment."""


class Crashing(Protocol):
    """What is asked of the worker."""

    name: str
    servers: Mapping[str, Any]


class CrashLog:
    """The exception handler of one worker's loop, threads and finalizers."""

    def __init__(self, worker: Crashing, log: logging.Logger) -> None:
        self._worker = worker
        self._log = log
        self._kinds: dict[tuple[str, ...], list[float]] = {}

    def install_in_process(self) -> None:
        """Watch threads, finalizers and warnings, which would write to stderr."""
        threading.excepthook = self.in_thread
        sys.unraisablehook = self.in_finalizer
        warnings.showwarning = show_warning

    def install_in_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop`, unless it has a handler already."""
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(self.in_loop)

    # -- what python and asyncio call ------------------------------------------------------

    def in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio's: `context` as in ``loop.call_exception_handler()``."""
        error = context.get("exception")
        task = context.get("task") or context.get("future")
        frames = list(_frames(error.__traceback__)) if error is not None else []
        transport = context.get("transport") or _transport_in(frames)
        server, peer = self._whose(context, transport, frames)
        about = [f"server {server!r}"] if server else []
        if peer:
            about.append(peer)
        if isinstance(task, asyncio.Task):
            about.append(f"task {task.get_name()!r} of {_name_of(task.get_coro())}")
        what = str(context.get("message") or "")
        if error is not None and context.get("request"):
            about.append(what)  # a plugin's: the endpoint and the request that it failed on
        elif error is None or isinstance(task, asyncio.Future):
            about.append(f"{what or 'a failure without an exception'}{_others(context)}")
        self._tell(about, error)

    def in_thread(self, args: Any) -> None:
        """``threading.excepthook``."""
        if not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else "?"
            self._tell([f"thread {name!r}"], args.exc_value or args.exc_type())

    def in_finalizer(self, args: Any) -> None:
        """``sys.unraisablehook``: an exception where none can be raised."""
        if isinstance(args.exc_value, EarlyExit):
            return  # the worker leaves in its loop's first step
        what = args.err_msg or "exception ignored in"
        self._tell([f"{what} {_short(args.object)}"], args.exc_value or args.exc_type())

    # -- whose it was ----------------------------------------------------------------------

    def _whose(
        self, context: Mapping[str, Any], transport: Any, frames: list[FrameType]
    ) -> tuple[str, str]:
        """The server and the peer, each empty when it cannot be told."""
        server = _server_in(context) or self._server_by(transport, frames)
        address = _address_in(frames)
        if address is None and transport is not None:
            address = transport.get_extra_info("peername")
        return server, format_peer(address) if address else ""

    def _server_by(self, transport: Any, frames: list[FrameType]) -> str:
        """uvloop leaves the context of a read before it tells of its failure."""
        local = transport.get_extra_info("sockname") if transport is not None else None
        drivers = [frame.f_locals["self"] for frame in frames if "self" in frame.f_locals]
        for name, serving in self._worker.servers.items():
            if (local and serving.listens_at(local)) or any(map(serving.drives, drivers)):
                return name
        return ""

    def flush(self) -> None:
        """Say how many of each kind were not told yet, and forget the kinds."""
        for kind, (_, seen) in self._kinds.items():
            if (untold := int(seen) - _FULL) > 0:
                parts = [f"Worker {self._worker.name}", *filter(None, kind)]
                self._log.error("%s", f"{': '.join(parts)}: ({untold} more of it)")
        self._kinds.clear()

    # -- saying it -------------------------------------------------------------------------

    def _tell(self, about: list[str], error: BaseException | None) -> None:
        place = blame(error) if error is not None else ""
        parts = [f"Worker {self._worker.name}", *about, *([place] if place else [])]
        more = self._more((about[0] if about else "", place))
        if more is None:
            return
        if more:
            parts.append(f"({more} more of it in the last {_PERIOD:g} s)")
        trace = error.__traceback__ if error is not None else None
        info = (type(error), error, trace) if error is not None else None
        self._log.error("%s", ": ".join(parts), exc_info=info)

    def _more(self, kind: tuple[str, ...]) -> int | None:
        """How many of that kind were not told before this one; None: it is one more of them."""
        now = time.monotonic()
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            self.flush()
        seen = self._kinds.setdefault(kind, [now, 0.0])
        untold = 0
        if now - seen[0] > _PERIOD:
            untold = max(0, int(seen[1]) - _FULL)
            seen[:] = [now, 0.0]
        seen[1] += 1
        return untold if seen[1] <= _FULL else None


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:
    """``warnings.showwarning``, to the log.

    Not ``logging.captureWarnings()``: it would give the logger a handler that drops them.
    """
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is not None:
        file.write(text)
    else:
        logging.getLogger("py.warnings").warning("%s", " ".join(text.split()))


def _server_in(context: Mapping[str, Any]) -> str:
    """The server's name in the context that the callback or task ran in."""
    for key in ("handle", "task", "future"):
        of: contextvars.Context | None = context_of(context.get(key))
        if of is not None and (name := of.get(SERVER)):
            return name
    return SERVER.get()


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _address_in(frames: list[FrameType]) -> Any:
    """Who sent the datagram: the second argument of ``datagram_received(data, addr)``."""
    for frame in frames:
        code = frame.f_code
        if code.co_name == "datagram_received" and code.co_argcount >= 3:
            return frame.f_locals.get(code.co_varnames[2])
    return None


def _transport_in(frames: list[FrameType]) -> Any:
    """The transport that a callback was about: an argument of it, or kept by its object."""
    for frame in frames:
        values = list(frame.f_locals.values())
        held = getattr(frame.f_locals.get("self"), "__dict__", {})
        for value in [*values, *held.values()]:
            if not isinstance(value, type) and callable(
                getattr(type(value), "get_extra_info", None)
            ):
                return value
    return None


def _name_of(coro: Any) -> str:
    return str(getattr(coro, "__qualname__", None) or _short(coro))


def _others(context: Mapping[str, Any]) -> str:
    """What else asyncio or a library put there, like ``client_session``."""
    known = {"message", "exception", "task", "future", "handle", "transport", "protocol",
             "source_traceback"}
    return "".join(f", {key}: {_short(value)}" for key, value in context.items()
                   if key not in known)


def _short(value: object) -> str:
    try:
        return f"{value!r:.{_LONGEST}}"
    except Exception as error:
        return f"{type(value).__name__} (its repr failed: {type(error).__name__})"
