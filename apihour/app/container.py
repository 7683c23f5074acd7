"""The container: an application, one instance per worker.

The life of one, in order::

    Container(config, worker, loop) → pre_start() → make_engines() → make_servers() → start()
    → accepting, reported ready → … → retire: accepting stops, servers drain
    → shutdown() → connections gone, or the deadline → cleanup()

Every hook may be ``def`` or ``async def``. A hook that raises before "ready" ends the
worker's start: what was started is stopped, ``cleanup()`` is called, and the failure is
reported with the user's own file, line and text.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from apihour.bus import Bus
    from apihour.cpu.cpu_pool import CpuPool
    from apihour.jobs import Jobs
    from apihour.ops.container_ops import Operations
    from apihour.presence import ContainerPresence
    from apihour.shared.backend import SharedBackend
    from apihour.shared.flags import Flags
    from apihour.shared.shared_limits import SharedLimits

__all__ = ["Container"]

# In the order in which they are closed: what is last, others lean on.
_MADE = ("bus", "_engine_set", "http", "resolver", "limits", "flags", "presence", "shared",
         "_cpu_pool")
T = TypeVar("T")


class Container:
    """One application in one worker; subclass it and write :meth:`make_servers`.

    ``config`` is the configuration of the daemon (``etc/NAME/main/main.yaml``), ``worker``
    the worker it lives in, ``loop`` its event loop. ``engines`` holds what :meth:`make_engines`
    returned and what the configuration adds, and what you put there; ``services`` is yours;
    ``servers`` holds what :meth:`make_servers` returned, by bind name.
    """

    binds: Mapping[str, str | list[str]] | None = {}
    """Where each server listens; ``-b name=address`` and configuration override it.

    None: it serves nothing, and works in :meth:`start` or in jobs.
    """

    single: Collection[str] = frozenset()
    """Servers, and async methods, that run in one worker of the daemon at a time.

    Another worker goes on with them when that one dies or retires: with a server once nothing
    more is accepted here, while its connections may still be open, with a method once it has
    ended. A method is called when its worker serves, and cancelled when it retires.
    """

    exclusive: Collection[str] = frozenset()
    """The same, but a server goes on elsewhere only when its last connection here is gone."""

    def __init__(
        self, config: dict[str, Any] | None = None, worker: Any = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config: dict[str, Any] = config if config is not None else {}
        self.worker = worker
        self.loop = loop if loop is not None else asyncio.get_event_loop()
        self.engines: dict[str, Any] = {}
        self.services: dict[str, Any] = {}
        self.servers: dict[str, Any] = {}

    @classmethod
    def make_event_loop(cls, config: dict[str, Any]) -> asyncio.AbstractEventLoop:
        """Return the worker's event loop: uvloop's where it is installed, else asyncio's."""
        try:
            import uvloop
        except ImportError:
            return asyncio.new_event_loop()
        return uvloop.new_event_loop()

    def make_engines(self) -> Any:
        """Return ``{name: engine}`` (:mod:`apihour.engines`); sync or async, nothing is opened.

        They are up before :meth:`make_servers` is called, and closed after :meth:`cleanup`.
        """
        return {}

    def make_servers(self) -> Any:
        """Return ``{bind name: what to serve}``; sync or async, nothing is opened here."""
        return {}

    async def pre_start(self) -> None:
        """Called first; configuration is there, nothing else."""

    async def start(self) -> None:
        """Bring engines up; the first connection is accepted after this returned."""

    async def shutdown(self) -> None:
        """Called when the servers have said goodbye; connections may still be open."""

    async def cleanup(self) -> None:
        """Close engines; the last connection is gone. Called after a failed start as well."""

    @functools.cached_property
    def shared(self) -> SharedBackend:
        """The store that all workers of this daemon share; see :mod:`apihour.shared.store`."""
        from apihour.shared.chosen import chosen

        return chosen(self.config.get("shared"), self.worker.runtime.shared)

    @functools.cached_property
    def bus(self) -> Bus:
        """Messages to the other workers, or to other machines; see :mod:`apihour.bus`."""
        from apihour.bus import open_bus

        return open_bus(self.config.get("bus"), self.worker.runtime.path / "bus")

    @functools.cached_property
    def limits(self) -> SharedLimits:
        """Rates for all workers together; see :mod:`apihour.shared.shared_limits`."""
        from apihour.shared.shared_limits import SharedLimits

        return SharedLimits(self.shared)

    @functools.cached_property
    def flags(self) -> Flags:
        """Feature values for all workers; see :mod:`apihour.shared.flags`."""
        from apihour.shared.flags import Flags

        copy = self.worker.runtime.path / "flags.json" if hasattr(self.shared, "heard") else None
        return Flags(self.shared, self.config.get("flags"), copy)

    @functools.cached_property
    def presence(self) -> ContainerPresence:
        """Who is connected where, on all workers; see :mod:`apihour.presence`."""
        from apihour.presence import ContainerPresence

        return ContainerPresence(self.shared, getattr(self.worker, "name", ""))

    @functools.cached_property
    def jobs(self) -> Jobs:
        """The jobs on a schedule, and background work; see :mod:`apihour.jobs`."""
        jobs: Jobs | None = getattr(self.worker, "jobs", None)
        if jobs is None:  # none is declared, or there is no daemon: nobody minds a schedule
            from apihour.jobs.container_jobs import make_jobs

            log = logging.getLogger("gunicorn.error")
            jobs = make_jobs(self, getattr(self.worker, "name", ""), log)
            if hasattr(self.worker, "jobs"):
                self.worker.jobs = jobs
        return jobs

    @functools.cached_property
    def ops(self) -> Operations:
        """The shell's commands as async methods: ``await container.ops.workers()``."""
        from apihour.ops.container_ops import Operations

        return Operations(self.worker.runtime)

    @functools.cached_property
    def tracer(self) -> Any:
        """What makes spans of requests, queries and jobs, with ``tracing: true``; None else.

        OpenTelemetry's, of the provider that the application sets. Raises ConfigurationError.
        """
        if not self.config.get("tracing"):
            return None
        from apihour.app.tracing import make_tracer

        return make_tracer(self.config["tracing"])

    @functools.cached_property
    def resolver(self) -> Any:
        """An :class:`aiodns.DNSResolver` on this loop, made on first use."""
        from apihour.app.http_client import make_resolver

        return make_resolver(self.loop, self.config.get("resolver"))

    @functools.cached_property
    def http(self) -> Any:
        """An :class:`aiohttp.ClientSession` that resolves names by :attr:`resolver`."""
        from apihour.app.http_client import make_session

        return make_session(self.resolver)

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """Run a picklable function in a process of its own pool, leaving the loop free.

        The pool has as many processes as ``config["cpu_processes"]`` says (default 1), each
        started on first use. Raises what the function raises, and BrokenProcessPool when its
        process died in this very call; other calls do not notice, and the next starts another
        process. What still computes when the container is closed is ended.
        """
        return await self._cpu_pool.run(function, *args)

    @functools.cached_property
    def _cpu_pool(self) -> CpuPool:
        from apihour.cpu.cpu_pool import CpuPool

        return CpuPool(int(self.config.get("cpu_processes", 1)))

    async def open_engines(
        self, made: Any = None, begin: Callable[[str], None] = lambda what: None,
        without: Collection[Any] = (),
    ) -> None:
        """Start the engines of :meth:`make_engines` (`made`) and of the configuration.

        Called by the worker; `begin` hears what is under way. Tests may do `without` some.
        Raises ApihourError.
        """
        if made is None:
            found = self.make_engines()
            made = await found if inspect.isawaitable(found) else found
        has_daemon = getattr(self.worker, "runtime", None) is not None
        for name in ("bus", "shared") if has_daemon else ():  # refused here, not at the first use
            if self.config.get(name) is not None and hasattr(getattr(self, name), "start"):
                begin(f"{name}: its start")
                await getattr(self, name).start()
        sections = self.config.get("engines")
        if not made and not sections:
            return
        from apihour.engines.engine_set import EngineSet, declare

        declared = {name: engine for name, engine in declare(made, sections).items()
                    if name not in without}
        self.engines.update(declared)
        self._engine_set = EngineSet(declared)
        await self._engine_set.start(self, self.shared if has_daemon else None, begin)

    def retire_made(self) -> None:
        """What was made on first use takes no more work. Called by a worker that retires."""
        if self.__dict__.keys() & {"bus", "presence", "shared"}:
            from apihour.app.closing import retire_all

            retire_all(self.__dict__, getattr(self.worker, "jobs", None))

    async def close_made(self) -> None:
        """Close engines, and what was made on first use, if it was. Called by the worker."""
        if any(name in self.__dict__ for name in _MADE):
            from apihour.app.closing import close_all

            await close_all(self.__dict__, _MADE)
