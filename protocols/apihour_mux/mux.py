"""Mux: servers of several protocols behind one bind.

Rules:

- Each entry is whatever ``make_servers()`` would take, adapted by the plugins that the host asks.
- A connection is moved to its entry's line of the tables (``edge/http``) when that is known.
- On a ``?tls`` bind, connections that begin a TLS handshake are decrypted, and what is inside is
  told apart like any other; the rest are taken as they are (``optional_tls``).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from apihour_mux.matchers import KNOWN, Matcher, MuxEntry
from apihour_mux.peek import Peek

__all__ = ["Mux"]

_DEFAULT = "default"
_POLL = 0.05  # seconds between two looks whether all have spoken
_LINE_EVERY = 10.0  # seconds between two lines about connections that nobody knew


class Mux:
    """Serve each connection by the entry of `servers` that its first bytes are of.

    Entries called ``ssh``, ``http`` (HTTP/1, and HTTP/2 where its server speaks that), ``http2``
    and ``tls`` are told by what their clients send first; ``tls`` is for a server that ends TLS
    itself (on a ``?tls`` bind the host does, and none is needed). A :class:`MuxEntry` brings a
    matcher of its own, and is asked before those, in the order given. ``default`` gets what nobody
    else knows, and clients that say nothing for `timeout` seconds (protocols whose server speaks
    first); without it they are closed.

    Raises TypeError or ValueError for an entry that cannot be served.
    """

    protocol = "mux"

    def __init__(self, servers: Mapping[str, Any], *, timeout: float = 2.0) -> None:
        if not isinstance(servers, Mapping) or not servers:
            raise TypeError(f"Mux({servers!r}): expected servers by name")
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise ValueError(f"option timeout={timeout!r}: expected seconds, more than 0")
        self._timeout = self.optional_tls = timeout
        self._matchers: list[tuple[str, Matcher]] = []
        self._servers: dict[str, Any] = {}
        for name, entry in servers.items():
            self._enter(name, entry)
        known = [name for name in KNOWN if name in servers]
        self._matchers += [(name, KNOWN[name]) for name in known
                           if not isinstance(servers[name], MuxEntry)]
        if "http2" not in servers and "h2" in getattr(self._servers.get("http"), "alpn", ()):
            self._matchers.insert(0, ("http", KNOWN["http2"]))  # it speaks both
        self._made: dict[str, Callable[..., asyncio.BaseProtocol]] = {
            name: server.stream for name, server in self._servers.items()}
        self._name = "mux"
        self._logger = logging.getLogger("apihour_mux")
        self._started: list[Any] = []
        self._peeking: set[Peek] = set()
        self._unknown = 0
        self._last_line = -_LINE_EVERY

    def _enter(self, name: str, entry: Any) -> None:
        if isinstance(entry, MuxEntry):
            self._matchers.append((name, entry.matcher))
            entry = entry.server
        elif name != _DEFAULT and name not in KNOWN:
            raise ValueError(f"Mux: entry {name!r}: expected one of {', '.join(KNOWN)}, default, "
                             "or a MuxEntry with a matcher of its own")
        self._servers[name] = server = adapted(name, entry)
        if not callable(getattr(server, "stream", None)):
            raise TypeError(f"Mux: entry {name!r}: {entry!r} accepts by itself; expected a server "
                            "that is given its connections")

    def __repr__(self) -> str:
        return f"Mux({', '.join(self._servers)})"

    @property
    def alpn(self) -> tuple[str, ...]:
        """What its entries offer by ALPN, for a bind that ends TLS."""
        return tuple(dict.fromkeys(
            name for server in self._servers.values() for name in getattr(server, "alpn", ())))

    @property
    def gauges(self) -> tuple[str, ...]:
        """Those of its entries."""
        return tuple(dict.fromkeys(
            name for server in self._servers.values() for name in getattr(server, "gauges", ())))

    async def start(self, context: Any = None) -> None:
        """Start every entry. Raises what one of them raises."""
        if context is not None:
            self._name, self._logger = context.name, context.logger
        for name, server in self._servers.items():
            self._started.append(server)
            await server.start(context and dataclasses.replace(
                context, name=f"{self._name}/{name}", options={}))

    def examine(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> None:
        """See whether every entry would start. Raises what it would."""
        for server in self._servers.values():
            look = getattr(server, "examine", None)
            if look is not None:
                look(limits, {})

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the host's row for it."""
        peek = Peek(partial(self._choose, conn), self._timeout, self._refuse,
                    self._peeking.discard, conn)
        self._peeking.add(peek)
        return peek

    def _choose(
        self, conn: Any, data: bytes, is_all: bool,
    ) -> Callable[[], asyncio.BaseProtocol] | None:
        """What makes the protocol of a connection that began with `data`; None: nobody knows."""
        waits = False
        for name, matcher in self._matchers:
            verdict = matcher(data) if data else None
            if verdict:
                return partial(self._make, name, conn)
            waits = waits or verdict is None
        if _DEFAULT in self._servers and (is_all or not waits):
            return partial(self._make, _DEFAULT, conn)
        if not waits and data and not is_all:
            return partial(self._close, data)
        return None

    def _make(self, name: str, conn: Any) -> asyncio.BaseProtocol:
        move = getattr(conn, "move", None)
        if move is not None:
            move(f"{self._name}/{name}", self._servers[name].protocol)
        return self._made[name](conn)

    def _close(self, data: bytes) -> asyncio.BaseProtocol:
        self._refuse(data)
        return Closing()

    def _refuse(self, data: bytes) -> None:
        self._unknown += 1
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            what = f"begins with {data[:16]!r}" if data else "says nothing"
            self._logger.info("server %r: a connection %s, which is no entry's (%d so far)",
                              self._name, what, self._unknown)

    async def drain(self, deadline: float) -> None:
        """Have every entry say goodbye; `deadline` is a time of ``loop.time()``.

        Who has not said yet what it speaks is waited for, and gets that entry's goodbye.
        """
        while True:
            last = not self._peeking
            await asyncio.gather(*(server.drain(deadline) for server in self._servers.values()))
            if last:
                return
            while self._peeking and await _pause(deadline):
                pass

    async def stop(self) -> None:
        """Stop what was started, the last first; who has not spoken yet is closed.

        Raises what one of them raises.
        """
        for peek in list(self._peeking):
            peek.abort()
        async with contextlib.AsyncExitStack() as stack:
            started, self._started = self._started, []
            for server in started:
                stack.push_async_callback(server.stop)

    async def measure(self, seconds: float) -> list[dict[str, Any]]:
        """Measure the routes of the entries that have some."""
        measures = [server.measure(seconds) for server in self._servers.values()
                    if hasattr(server, "measure")]
        return [row for rows in await asyncio.gather(*measures) for row in rows]

    def statistics(self) -> dict[str, Any]:
        """The entries' figures, added up; ``unknown``: connections that were no entry's."""
        total: dict[str, Any] = {"unknown": self._unknown}
        for server in self._servers.values():
            _add(total, server.statistics())
        return total


class Closing(asyncio.Protocol):
    """Ends its connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]


def _add(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping):
            _add(total.setdefault(key, {}), value)
        elif isinstance(value, int | float) and isinstance(total.get(key, 0), int | float):
            total[key] = total.get(key, 0) + value
        else:
            total.setdefault(key, value)


def adapted(name: str, entry: Any) -> Any:
    """The server for `entry`, by the plugin that takes it. Raises TypeError when none does."""
    if all(hasattr(entry, part) for part in ("start", "stream", "drain", "stop", "statistics")):
        return entry
    takers = [plugin for found in entry_points(group="apihour.protocols")
              if (plugin := found.load()).accepts(entry, "stream")]
    if len(takers) != 1:
        names = " and ".join(plugin.name for plugin in takers) or "no plugin"
        raise TypeError(f"Mux: entry {name!r}: {entry!r} is taken by {names}; expected one")
    return takers[0].adapt(entry, "stream")


async def _pause(deadline: float) -> bool:
    """Wait a moment; False when the deadline has come."""
    left = deadline - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(min(_POLL, left))
    return left > 0
