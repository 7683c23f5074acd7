"""TCPServer: any stream protocol class, factory or stream callback, as a server.

Rules:

- Between the transport and the user's protocol there is nothing: what is handed to the
  loop is the user's own protocol (with plain asyncio, after ``connection_made``).
- One connection's failure is one log line with its peer and the end of that connection.
- ``drain`` may poll; ``stream`` may not.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from apihour_tcp.factories import (
    classify,
    describe,
    is_protocol,
    promises,
    required_positionals,
)
from apihour_tcp.tracking import Open, Tracker, peer_of
from apihour_tcp.trial import EXPECTED, failure, try_once

__all__ = ["StreamCallback", "TCPServer"]

StreamCallback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# How often drain looks whether the last connection is gone, in seconds.
_POLL = 0.05
# The size asyncio.start_server gives its readers, in bytes.
_READER_LIMIT = 2**16


class TCPServer:
    """Serve `factory` on TCP or unix connections.

    `factory` is a class of stream protocols (``asyncio.Protocol``, ``BufferedProtocol``, or
    any with ``connection_made`` and ``data_received``), any callable without arguments that
    returns an instance of one, or a stream callback ``async (reader, writer)`` as for
    :func:`asyncio.start_server`, whose reader holds up to `limit` bytes.

    Unless it is a class, or annotated to return one, the factory is called once by
    :meth:`start`, to see what it makes; that protocol is dropped.

    When the server drains, a protocol's ``on_drain()`` (plain or ``async``) is called if it
    has one; with ``half_close=True`` the others get the end of file (``write_eof``). A
    connection that stays is left alone until the deadline.

    Raises TypeError when `factory` is none of these.
    """

    protocol = "tcp"

    def __init__(
        self, factory: Callable[..., Any], *, half_close: bool = False, limit: int = _READER_LIMIT
    ) -> None:
        self._callback, self._factory = _split(factory)
        self._description = describe(factory)
        self._half_close = half_close
        self._limit = limit
        self._name = "tcp"
        self._logger = logging.getLogger("apihour_tcp")
        self._debug = False
        self._errors = 0
        self._tracker = Tracker()
        self._accepted = 0
        self._made: type | None = None  # the last class of protocols that was found to be one
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"TCPServer({self._description})"

    async def start(self, context: Any = None) -> None:
        """Take name and logger from `context` (an ``apihour.plugins.ServerContext``).

        Raises TypeError when the factory fails, or makes what is no stream protocol.
        """
        if context is not None:
            self._name, self._logger = context.name, context.logger
            self._debug = context.debug
        if self._callback is None and not promises(self._factory, "stream"):
            try_once(self._factory, "stream")

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the core's row for it."""
        if conn is None:
            return _Arrival(self)
        self._accepted += 1
        if self._tracker.table is None:
            self._tracker.add_row(conn)
        try:
            return self._make() if self._callback is None else self._run_callback(conn.peer)
        except Exception as error:
            self._log_factory(error, conn.peer)
            return _Refusal()

    def _make(self) -> asyncio.BaseProtocol:
        """What the factory makes. Raises what it raises, TypeError when that is no protocol."""
        protocol: asyncio.BaseProtocol = self._factory()
        if type(protocol) is not self._made:
            if not is_protocol(protocol, "stream"):
                raise TypeError(f"returned {protocol!r}, expected {EXPECTED['stream']}")
            self._made = type(protocol)
        return protocol

    def _run_callback(self, peer: str) -> asyncio.BaseProtocol:
        callback = self._callback
        assert callback is not None
        loop = asyncio.get_running_loop()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(self._run(callback, reader, writer, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        reader = asyncio.StreamReader(limit=self._limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, connected, loop=loop)

    async def _run(
        self, callback: StreamCallback, reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter, peer: str,
    ) -> None:
        try:
            await callback(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            # The peer left in the middle: its own business, worth a line to who looks.
            self._logger.debug("server %r: %s: %s: %s", self._name, peer,
                               type(error).__name__, error)
            writer.transport.abort()
        except Exception as error:
            self._errors += 1
            # The host's handler knows the worker and the server, and counts repeats.
            said = f"{peer}: callback {self._description} failed, connection closed"
            asyncio.get_running_loop().call_exception_handler({
                "message": said, "exception": error, "transport": writer.transport,
                "request": said})
            writer.transport.abort()

    def _log_factory(self, error: Exception, peer: str) -> None:
        self._errors += 1
        self._logger.error(
            "server %r: %s: factory %s failed, connection closed: %s", self._name, peer,
            self._description, failure(error), exc_info=self._debug,
        )

    async def drain(self, deadline: float) -> None:
        """Tell every open protocol; return when the last connection is gone.

        `deadline` is a time of ``loop.time()``: at it, return with connections left.
        """
        loop = asyncio.get_running_loop()
        told: set[asyncio.Transport | None] = {None}
        goodbyes: set[asyncio.Task[None]] = set()
        try:
            while connections := self._tracker.open():
                # One that was still on its way when draining began is told when it is here.
                for connection in connections:
                    if connection.transport not in told:
                        told.add(connection.transport)
                        self._goodbye(connection, goodbyes)
                if not await _pause(loop, deadline):
                    return
            while self._tasks or goodbyes:
                if not await _pause(loop, deadline):
                    return
        finally:
            for task in goodbyes:
                task.cancel()

    def _goodbye(self, connection: Open, goodbyes: set[asyncio.Task[None]]) -> None:
        """Say it by hook or half-close; an asynchronous hook joins `goodbyes`."""
        assert connection.transport is not None
        on_drain = getattr(connection.transport.get_protocol(), "on_drain", None)
        try:
            if on_drain is not None:
                result = on_drain()
                if inspect.isawaitable(result):
                    task = asyncio.ensure_future(self._finish_goodbye(result, connection.peer))
                    goodbyes.add(task)
                    task.add_done_callback(goodbyes.discard)
            elif self._half_close and connection.transport.can_write_eof():
                with contextlib.suppress(OSError):  # the client is gone: reading finds out
                    connection.transport.write_eof()
        except Exception:
            self._log_on_drain(connection.peer)

    async def _finish_goodbye(self, result: Awaitable[Any], peer: str) -> None:
        try:
            await result
        except Exception:
            self._log_on_drain(peer)

    def _log_on_drain(self, peer: str) -> None:
        self._errors += 1
        self._logger.exception("server %r: %s: on_drain of %s failed", self._name, peer,
                               self._description)

    async def stop(self) -> None:
        """Cancel the callbacks and abort the connections that are left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for connection in self._tracker.open():
            if connection.transport is not None:
                connection.transport.abort()
        if tasks:
            await asyncio.wait(tasks)

    def statistics(self) -> Mapping[str, Any]:
        """``accepted``, ``connections`` (open now), ``errors`` of factory, callback, on_drain."""
        return {"accepted": self._accepted, "connections": len(self._tracker),
                "errors": self._errors}


async def _pause(loop: asyncio.AbstractEventLoop, deadline: float) -> bool:
    """Wait a moment; False when the deadline has come."""
    remaining = deadline - loop.time()
    if remaining > 0:
        await asyncio.sleep(min(_POLL, remaining))
    return remaining > 0


def _split(factory: Any) -> tuple[StreamCallback | None, Callable[[], Any]]:
    """Tell a stream callback from a factory. Raises TypeError for what is neither."""
    shape = classify(factory)
    if shape == "callback":
        return factory, factory
    if shape != "datagram" and callable(factory) and required_positionals(factory) in (0, None):
        return None, factory
    raise TypeError(
        f"TCPServer({factory!r}): expected an asyncio.Protocol class, a callable without "
        "arguments that returns a protocol, or a callback async (reader, writer)"
    )


class _Arrival(asyncio.Protocol):
    """With plain asyncio: learns the transport, then hands it to the user's protocol."""

    def __init__(self, server: TCPServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        # A cast: uvloop's transports do not derive from asyncio's.
        stream = cast(asyncio.Transport, transport)
        server._accepted += 1
        server._tracker.add_transport(stream)
        peer = peer_of(stream)
        try:
            protocol = server._make() if server._callback is None else server._run_callback(peer)
        except Exception as error:
            server._log_factory(error, peer)
            stream.abort()
            return
        stream.set_protocol(protocol)
        protocol.connection_made(transport)


class _Refusal(asyncio.Protocol):
    """Stands in for a protocol that could not be made: closes the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
