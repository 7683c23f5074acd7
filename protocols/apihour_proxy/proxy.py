"""Proxy: a server that passes each connection on to one of its upstreams.

Rules:

- Its connections have what ``start()`` decided (``proxying.py``), and never the server.
- Bytes are not looked at: whatever speaks over a stream goes through.
- ``stop()`` works after a partial start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from apihour_proxy.flow import Machinery
from apihour_proxy.looking import Watch
from apihour_proxy.lookup import Lookup, Target
from apihour_proxy.proxied_connection import ProxyConnection
from apihour_proxy.proxy_options import ProxyOptions
from apihour_proxy.proxying import Proxying
from apihour_proxy.upstreams import Upstreams

__all__ = ["Proxy"]

_LOOKS = 4  # looks at the bytes of a connection in `idle` seconds


class Proxy:
    """Pass connections on to `upstreams`: ``HOST:PORT``, an SRV record, ``unix:PATH``, or several.

    A name stands for all its addresses, as DNS has them, and is looked up again when its TTL has
    passed. An SRV record is written ``srv:_SERVICE._tcp.DOMAIN``. `resolver` is an
    ``aiodns.DNSResolver``; by default the container's, or a new one.

    Connecting takes `connect_timeout` seconds at most; when it fails up to `retries` further tries
    follow, at another upstream if there is one. An upstream that has failed `fails` times in a row
    is down. Every `check` seconds those are asked whether they take connections that are down, or
    took none meanwhile. A connection on which nothing moves for `idle` seconds is closed, None:
    never. `proxy_protocol` sends each upstream a header of that version, 1 or 2, first.

    In a host its configuration file may say all but `resolver`, the upstreams too
    (``servers: NAME: upstreams:``). Raises TypeError or ValueError for what cannot be.
    """

    protocol = "proxy"
    takes_options = True  # those of the host's configuration file
    gauges = ("upstream_up", "upstream_connections")

    def __init__(
        self, upstreams: str | Iterable[str] = (), *, connect_timeout: float = 5.0,
        retries: int = 3, fails: int = 3, check: float = 5.0, idle: float | None = 600.0,
        proxy_protocol: int | None = None, resolver: Any = None,
    ) -> None:
        if not isinstance(upstreams, str) and isinstance(upstreams, Iterable):
            upstreams = list(upstreams)
        self._declared = self._options = ProxyOptions(
            upstreams, connect_timeout, retries, fails, check, idle, proxy_protocol)
        self._resolver = resolver
        self._upstreams = Upstreams(fails)
        self._accepted = 0
        self._service: Proxying | None = None
        self._watch: Watch | None = None
        self._ticker: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Proxy({', '.join(target.text for target in self._options.targets())})"

    async def start(self, context: Any = None) -> None:
        """Look the upstreams up. Raises ImportError when there is a name, and no aiodns.

        A name that is not found yet is one line, and looked up again. `context` is an
        ``apihour.plugins.ServerContext``, whose ``options`` go before those of the constructor;
        raises ValueError or TypeError for one that cannot be, or without an upstream.
        """
        name = getattr(context, "name", "proxy")
        logger = getattr(context, "logger", None) or logging.getLogger("apihour_proxy")
        loop = asyncio.get_running_loop()
        options = self._options = self._declared.updated(getattr(context, "options", {}))
        targets = options.targets()
        self._upstreams = Upstreams(options.fails)
        self._service = service = Proxying(
            Machinery(loop), self._upstreams, options.connect_timeout, options.retries,
            options.proxy_protocol or 0, name, logger)
        self._upstreams.say = service.say
        self._watch = Watch(
            targets, Lookup(self._find_resolver(context, targets)), self._upstreams,
            check=options.check, timeout=options.connect_timeout, logger=logger, name=name,
            proxy_protocol=options.proxy_protocol or 0)
        await self._watch.start()
        if options.idle is not None:
            self._ticker = loop.call_later(
                options.idle / _LOOKS, self._tick, loop, options.idle / _LOOKS, {})

    def examine(self, limits: Mapping[str, int], options: Mapping[str, Any]) -> None:
        """See whether :meth:`start` would take these of its context. Raises what it would."""
        self._declared.updated(options)

    def _find_resolver(self, context: Any, targets: Iterable[Target]) -> Any:
        if self._resolver is not None or all(one.is_address for one in targets):
            return self._resolver
        return getattr(getattr(context, "container", None), "resolver", None)

    def _tick(
        self, loop: asyncio.AbstractEventLoop, pause: float, before: dict[ProxyConnection, int],
    ) -> None:
        """End connections on which nothing has moved; `before`: for how many looks already."""
        assert self._service is not None
        silent: dict[ProxyConnection, int] = {}
        for one in list(self._service.open):
            moved = one.moved
            if moved != one.seen:
                one.seen = moved
            elif (looks := before.get(one, 0) + 1) >= _LOOKS:
                self._service.idled += 1
                one.end()
            else:
                silent[one] = looks
        self._ticker = loop.call_later(pause, self._tick, loop, pause, silent)

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the host's row for it."""
        assert self._service is not None
        self._accepted += 1
        return ProxyConnection(self._service, conn)

    async def drain(self, deadline: float) -> None:
        """Return when the last connection is gone; `deadline` is a time of ``loop.time()``.

        At it, return with what is left: what goes through has no goodbye that is known here.
        """
        service = self._service
        if service is None or not service.open:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await service.empty.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """End what is left, at once."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.stop()
        if self._service is not None:
            for connection in list(self._service.open):
                connection.end()
            self._service.shared.close()

    def statistics(self) -> Mapping[str, Any]:
        """Counters since start, JSON-able; sizes in bytes.

        ``unserved``: no upstream took them; ``retries``: tries after a first one; ``idled``: closed
        as nothing moved; and of each upstream ``upstream_up`` (1 or 0), ``upstream_connections``,
        ``upstream_accepted``, ``upstream_failed``, ``upstream_bytes_in`` (from it) and
        ``upstream_bytes_out``. A name that was never found is one, which is not up.
        """
        service = self._service
        figures: dict[str, Any] = {"accepted": self._accepted}
        if service is not None:
            figures.update(connections=len(service.open), unserved=service.unserved,
                           retries=service.retries_made, idled=service.idled)
        figures.update(self._upstreams.statistics())
        if self._watch is not None and (unknown := self._watch.unknown()):
            figures["upstream_up"] = {
                **figures.get("upstream_up", {}), **dict.fromkeys(unknown, 0)}
        return figures
