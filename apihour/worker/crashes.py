"""Exceptions that reach nobody: of protocols, callbacks, tasks and threads, named and logged.

Rules:

- Nothing is paid for until something fails: who it was is read from the exception's frames
  and the transport in it.
- An application's own handler (``loop.set_exception_handler``) wins.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Protocol

from apihour.bind.peers import format_peer
from apihour.config.failures import FailureLog, short
from apihour.config.rootlog import SERVER
from apihour.ipc.private import context_of
from apihour.ipc.signals import EarlyExit

__all__ = ["CrashLog", "listens_at"]


class Crashing(Protocol):
    """What is asked of the worker."""

    name: str
    servers: Mapping[str, Any]


class CrashLog(FailureLog):
    """The exception handler of one worker's loop, threads and finalizers."""

    def __init__(self, worker: Crashing, log: logging.Logger) -> None:
        super().__init__(f"Worker {worker.name}", log)
        self._worker = worker

    # -- what python and asyncio call ------------------------------------------------------

    def in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio's: `context` as in ``loop.call_exception_handler()``."""
        error = context.get("exception")
        task = context.get("task") or context.get("future")
        frames = list(_frames(error.__traceback__)) if error is not None else []
        transport = context.get("transport") or _transport_in(frames)
        server, peer = self._whose(context, transport, frames)
        about = [f"server {server!r}"] if server else []
        what = str(context.get("message") or "")
        if peer and not what.startswith(f"{peer}: "):
            about.append(peer)
        if isinstance(task, asyncio.Task):
            about.append(f"task {task.get_name()!r} of {_name_of(task.get_coro())}")
        if error is not None and context.get("request"):
            about.append(what)  # a plugin's: the endpoint and the request that it failed on
        elif error is None or isinstance(task, asyncio.Future):
            about.append(f"{what or 'a failure without an exception'}{_others(context)}")
        self.tell(about, error, f"server {server!r}" if server else "")

    def in_finalizer(self, args: Any) -> None:
        """``sys.unraisablehook``, but for the worker's own way out."""
        if not isinstance(args.exc_value, EarlyExit):  # it leaves in its loop's first step
            super().in_finalizer(args)

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
            if (local and listens_at(serving, local)) or any(map(serving.drives, drivers)):
                return name
        return ""


def listens_at(serving: Any, address: Any) -> bool:
    """Whether a connection whose own end has that socket address came in at that server."""
    return any(_covers(acceptor.local, address) for acceptor in serving.acceptors)


def _covers(listener: Any, address: Any) -> bool:
    """Whether a listener's socket address, perhaps one of all interfaces, is that of `address`."""
    if not (isinstance(listener, tuple) and isinstance(address, tuple)):
        return bool(listener == address)
    return listener[1] == address[1] and listener[0] in (address[0], "0.0.0.0", "::")


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
    return str(getattr(coro, "__qualname__", None) or short(coro))


def _others(context: Mapping[str, Any]) -> str:
    """What else asyncio or a library put there, like ``client_session``."""
    known = {"message", "exception", "task", "future", "handle", "transport", "protocol",
             "source_traceback"}
    return "".join(f", {key}: {short(value)}" for key, value in context.items()
                   if key not in known)
