"""The servers of one worker: made, started, accepting, and those that one worker alone has.

Rule: accepting comes last, and a shell's connections are the console's to accept.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from apihour.bind.binds import match_servers, one_kind
from apihour.bind.listeners import Listener
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import BoardRow, Figure, Scoreboard
from apihour.ipc.state_files import StateFile
from apihour.plugins import Registry, ServerContext
from apihour.worker.accept import Balance
from apihour.worker.connections import ConnectionTable
from apihour.worker.serving import Serving

if TYPE_CHECKING:
    from apihour.limits.bind_options import BindOptions
    from apihour.tls.termination import Terminator
    from apihour.worker.only_here import OnlyHere

__all__ = ["ServerSet", "WorkerHost"]


class WorkerHost(Protocol):
    """What the parts of a worker see of it."""

    name: str
    slot: int
    cfg: Any
    log: Any
    loop: Any
    container: Any
    jobs: Any
    sockets: list[Listener]
    connections: ConnectionTable
    row: BoardRow
    runtime: Runtime
    scoreboard: Scoreboard


class ServerSet:
    """All of them by name, in `all`; `once` are those of one worker at a time."""

    def __init__(
        self, host: WorkerHost, begin: Callable[[str], None], retiring: asyncio.Event,
    ) -> None:
        """`begin` tells the arbiter what is under way from now on; `retiring`: it leaves."""
        self.all: dict[str, Serving] = {}
        self.once: dict[str, bool] = {}
        self._host = host
        self.terminators: dict[Listener, Terminator] = {}
        self._begin = begin
        self._retiring = retiring
        self._options: dict[str, dict[str, Any]] = {}
        self.only: OnlyHere  # where there is one in `once`
        self._orders = StateFile(host.runtime.limits)

    def own(self) -> list[Serving]:
        """Those this process accepts for."""
        return [serving for serving in self.all.values() if not serving.is_shell]

    def common(self) -> list[Serving]:
        """Those that every worker has."""
        return [serving for serving in self.own() if serving.name not in self.once]

    def shells(self) -> list[Serving]:
        """Those that the console accepts for."""
        return [serving for serving in self.all.values() if serving.is_shell]

    def prepare_tls(self) -> None:
        """Read the certificates of ``?tls`` binds. Raises ConfigurationError."""
        if any(listener.address.tls is not None for listener in self._host.sockets):
            from apihour.tls.termination import prepare

            self.terminators = prepare(self._host.cfg, self._host.sockets)

    # -- made ------------------------------------------------------------------------------

    def adopt(self, made: Any) -> None:
        """Pair the user's servers with the listeners, and adapt each."""
        registry = Registry.from_entry_points()
        container = self._host.container
        by_bind: dict[str, list[Listener]] = {}
        for listener in self._host.sockets:
            by_bind.setdefault(listener.name, []).append(listener)
        for name, served, binds in match_servers(made, list(by_bind)):
            listeners = [listener for bind in binds for listener in by_bind[bind]]
            kind = one_kind(name, (listener.kind for listener in listeners))
            serving = Serving(name, registry.adapt(served, kind, name), listeners)
            serving.declare(self._declared(served, name))
            self.all[name] = serving
        if container.config.get("servers") is not None:
            from apihour.config.tree import server_options  # read where there is that section only

            self._options = {
                name: server_options(container.config, name, self.all, serving.server)
                for name, serving in self.all.items()
            }
        container.servers = {name: serving.server for name, serving in self.all.items()}

    def _declared(self, served: object, name: str) -> BindOptions | None:
        """What is asked of its connections beside its binds, if anything is."""
        config = self._host.container.config
        # Statically: an object of the user's may do anything when it is asked.
        if not config.get("servers") and inspect.getattr_static(
                served, "bind_options", None) is None:
            return None
        from apihour.limits.layers import declared_options  # read where something may be asked only

        return declared_options(served, config, name)

    def adopt_ancestor(self, pairs: Any) -> None:
        """API-Hour's ``make_servers(sockets)`` has made asyncio servers by itself."""
        from apihour.worker.ancestor import AncestorServer  # read where it is asked only

        sockets = self._host.sockets
        for listener in sockets:
            # asyncio's create_server(sock=...) listens again, with a backlog of its own.
            listener.listen(self._host.cfg.backlog)
        name = sockets[0].name if sockets else "asyncio"
        self.all[name] = Serving(name, AncestorServer(dict(pairs or {})), sockets)
        self._host.container.servers = dict(pairs or {})

    def see_singles(self, with_servers: bool = True) -> None:
        """Learn which servers and jobs only one worker has, of the generation that serves."""
        host = self._host
        if not (host.container.single or host.container.exclusive):
            return
        from apihour.worker.only_here import OnlyHere  # read where there is one only

        self.only = OnlyHere(
            host, self.all if with_servers else {}, self.may_take, self._retiring.set)
        self.once = self.only.once

    def may_take(self) -> bool:
        """Whether this worker takes what one worker does for all.

        One of the generation that serves, or of a newer one, that stays.
        """
        row, board = self._host.row, self._host.scoreboard
        return not self._retiring.is_set() and row.generation >= board.figure(Figure.GENERATION)

    # -- started ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start those that every worker has."""
        for serving in self.common():
            self._begin(f"server {serving.name!r} ({serving.protocol}): its start")
            await serving.start(self._context(serving.name))

    async def accept(self, balance: Balance) -> None:
        """Accept for those that every worker has; last where it cannot fail: clients come then."""
        self.heed_orders()
        for serving in sorted(self.common(), key=lambda one: one.accepts):
            self._begin(f"server {serving.name!r} ({serving.protocol}): its accepting")
            await self._accept(serving, balance)

    def heed_orders(self) -> None:
        """Do what operators have said of servers since the last call, if anything."""
        try:
            if not self._orders.has_changed():
                return
            from apihour.limits.live import read_live  # read where something was said only

            found = read_live(self._orders.path)
        except (OSError, ValueError) as error:
            self._host.log.error("Worker %s: what operators said of servers cannot be read, what "
                                 "was known holds on: %s", self._host.name, error)
            return
        for serving in self.own():
            serving.obey(found.get(serving.name))

    async def _accept(self, serving: Serving, balance: Balance | None) -> None:
        host = self._host
        await serving.accept(
            host.connections, host.loop, host.log.error_log, balance,
            host.cfg.worker_connections, host.slot, self.terminators,
            host.runtime.path / "datagrams",
        )

    def _context(self, name: str) -> ServerContext:
        host, cfg = self._host, self._host.cfg
        return ServerContext(
            name=name, container=host.container, loop=host.loop, logger=host.log.error_log,
            keepalive=cfg.keepalive, linger=cfg.worker_linger,
            graceful_timeout=float(cfg.graceful_timeout),
            access_log=host.log.access_log if cfg.accesslog else None,
            access_log_format=cfg.access_log_format, debug=cfg.debug,
            limits=cfg.request_limits, options=self._options.get(name, {}),
            forwarded_allow_ips=cfg.forwarded_allow_ips, bans=host.connections.bans,
            challenges=next((one.challenges for one in self.terminators.values()
                             if one.challenges is not None), None),
        )

    def suspend(self, suspended: bool) -> None:
        """Stop accepting for now, or go on; what is connected stays connected."""
        for serving in self.common():  # nobody else accepts for the others
            serving.suspend(suspended)

    # -- those that one worker has ---------------------------------------------------------

    def watch_singles(self) -> None:
        """From now on this worker may become the one."""
        if self.once:
            self.only.watch(self.all, self._begin_single)

    async def _begin_single(self, serving: Serving) -> None:
        """This worker is the only one for that server now."""
        await serving.start(self._context(serving.name))
        await self._accept(serving, None)
