"""One server of a worker on its listeners: start, accept, drain, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from apihour.plugins import Server, ServerContext, StreamServer, is_shell
from apihour.worker.accept import Acceptor, Balance

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress
    from apihour.bind.listeners import Listener
    from apihour.errors import HookError
    from apihour.limits.bind_options import BindOptions
    from apihour.limits.live import LiveOrder
    from apihour.tls.termination import Terminator
    from apihour.worker.connections import ConnectionTable
    from apihour.worker.datagrams import DatagramSockets
    from apihour.worker.slots import OtherSlots
    from apihour.worker.stages import StagedAcceptor

__all__ = ["Serving"]

class Serving:
    """A server, the listeners it was given, and how its connections are doing."""

    def __init__(self, name: str, server: Server, listeners: Sequence[Listener]) -> None:
        self.name = name
        self.server = server
        self.protocol = server.protocol
        self.listeners = list(listeners)
        self.addresses = list(dict.fromkeys(listener.url for listener in listeners))
        self.acceptors: list[Acceptor] = []
        self._datagrams: DatagramSockets | None = None
        self._others: OtherSlots | None = None
        self._staged: type[StagedAcceptor] | None = None
        self._load()
        # Whether the worker accepts for it: that cannot fail, as what a server does may.
        self.accepts = not self.is_datagram and callable(getattr(server, "stream", None))
        self.started = False
        self.numbers: dict[str, Any] = {}
        self.declared: BindOptions | None = None
        self.live: LiveOrder | None = None
        self._see_binds(None)

    def _load(self) -> None:
        """Import what its binds use, now: accepting may come much later (``single``)."""
        if self.is_datagram:
            from apihour.worker.datagrams import DatagramSockets

            self._datagrams = DatagramSockets(self.name, self.server)
        if any(one.slot for one in self.listeners):
            from apihour.worker.slots import OtherSlots

            self._others = OtherSlots(self.listeners, self._take)
        addresses = [one.address for one in self.listeners]
        if any(one.tls is not None or one.proxy is not None for one in addresses):
            from apihour.worker.stages import StagedAcceptor

            self._staged = StagedAcceptor

    @property
    def is_datagram(self) -> bool:
        """Whether it takes datagrams."""
        return any(listener.kind == "datagram" for listener in self.listeners)

    @property
    def is_shell(self) -> bool:
        """Whether the console process serves it: the worker must leave its listeners alone."""
        return is_shell(self.server)

    @property
    def accepted(self) -> int:
        return sum(acceptor.accepted for acceptor in self.acceptors)

    @property
    def refused(self) -> int:
        return sum(one.refused + one.banned + (one.door.refused if one.door is not None else 0)
                   for one in self.acceptors)

    def statistics(self) -> dict[str, Any]:
        """The figures of its plugin, and ours of handshakes and of silent connections."""
        numbers = dict(self.server.statistics())
        if any(acceptor.tls is not None for acceptor in self.acceptors):
            numbers["handshakes_failed"] = sum(acceptor.failed for acceptor in self.acceptors)
        if doors := [one.door for one in self.acceptors if one.door is not None]:
            numbers["closed_silent"] = sum(door.silenced for door in doors)
        return numbers

    async def start(self, context: ServerContext) -> None:
        """Get the server ready; nothing is accepted yet.

        Raises HookError naming the server and what its plugin said.
        """
        self.started = True  # a start that fails half-way is stopped as well
        try:
            await self.server.start(context)
        except Exception as error:
            raise self._cannot_start(error) from error

    async def accept(
        self, table: ConnectionTable, loop: asyncio.AbstractEventLoop, log: logging.Logger,
        balance: Balance | None, worker_limit: int, slot: int,
        terminators: Mapping[Listener, Terminator], locks: Path,
    ) -> None:
        """Open the gates: from here on connections and datagrams arrive.

        Of ``?reuse_port`` sockets those of `slot`, the worker's own, are served. At
        `worker_limit` open connections of all servers nothing more is accepted (0: no limit).
        `terminators` end TLS for the listeners of ``?tls`` binds; of datagram sockets there are
        `locks` in that directory.
        """
        if self._datagrams is not None:
            self._datagrams.prepare(locks, log)
        if self._others is not None:
            self._others.slot = slot
        for listener in self.listeners:
            acceptor = None
            if self.accepts:
                make: Callable[..., Acceptor] = Acceptor if self._staged is None else partial(
                    self._staged, tls=terminators.get(listener), networks=listener.address.proxy)
                acceptor = make(
                    self.name, listener.sock, cast(StreamServer, self.server), table, loop, log,
                    balance=None if listener.slot else balance,
                    limit=listener.address.limit or 0, total=worker_limit,
                )
                self.acceptors.append(acceptor)
                self._mind(acceptor, listener.address)
            if self._others is not None and not self._others.is_own(listener):
                self._others.leave(listener, acceptor)
            elif acceptor is not None:
                acceptor.start()
            else:
                await self._take(listener)

    def mind_slots(self, served: Set[int], wanted: int, now: float) -> None:
        """See to the sockets of other workers' slots, where its binds have some."""
        if self._others is not None:
            self._others.mind(served, wanted, now)

    async def _take(self, listener: Listener) -> None:
        if listener.kind == "datagram":
            assert self._datagrams is not None
            await self._datagrams.read(listener)
        else:
            try:
                await cast(Any, self.server).listener(listener.sock)
            except Exception as error:
                raise self._cannot_start(error) from error

    def _cannot_start(self, error: Exception) -> HookError:
        from apihour.app.hook_faults import cannot_start  # read where it cannot only

        return cannot_start(self.name, self.server, error)

    def declare(self, options: BindOptions | None) -> None:
        """What its class and the files ask. Raises ConfigurationError where it cannot be had."""
        self._see_binds(options)
        self.declared = options

    def _see_binds(self, options: BindOptions | None) -> None:
        addresses = [one.address for one in self.listeners]
        asked = [(one.tls, one.proxy, one.options) for one in addresses]
        if options is None and not any(map(any, asked)):
            return
        from apihour.worker.misfits import refuse_lost_options, refuse_lost_tls  # read where asked

        binds = {str(one): one.address for one in self.listeners}
        refuse_lost_tls(self.name, self.server, binds)
        refuse_lost_options(self.name, self.server, options, binds)

    def obey(self, live: LiveOrder | None) -> None:
        """What operators have said of it, from now on; None: nothing."""
        self.live = live
        addresses = [one.address for one in self.listeners if one.kind == "stream"]
        for acceptor, address in zip(self.acceptors, addresses, strict=False):
            self._mind(acceptor, address)

    def _mind(self, acceptor: Acceptor, address: BindAddress) -> None:
        """Have an acceptor do what is asked of its connections, if anything is."""
        live = self.live
        ordered = None if live is None else live.options
        told = (self.declared, address.options, ordered, acceptor.door)
        if any(one is not None for one in told):
            from apihour.limits.door import Door, layered  # read where something is asked only

            door = acceptor.door or Door(
                self.name, acceptor.sock, acceptor.entrance, acceptor.table, acceptor.loop,
                acceptor.log, acceptor.proxy is not None)
            door.change(layered(self.declared, address.limit, address.options, ordered))
            acceptor.obey(door.waits_at, door)
        if acceptor.is_held != (is_held := live is not None and live.suspended):
            acceptor.hold(is_held)

    def drives(self, protocol: object) -> bool:
        """Whether that is the protocol of one of its datagram sockets."""
        return self._datagrams is not None and self._datagrams.drives(protocol)

    def suspend(self, suspended: bool) -> None:
        """Leave new connections to other workers for now, or take them again."""
        for acceptor in self.acceptors:
            if suspended:
                acceptor.stop()
            elif self._others is None or not self._others.has(acceptor):
                acceptor.start()

    def stop_accepting(self, last: bool = False) -> None:
        """Close the gates and this process's copies of the listeners.

        `last`: nobody accepts after this worker, so the backlog is taken along.
        """
        for acceptor in self.acceptors:
            acceptor.stop()
            if last and not acceptor.is_held:
                acceptor.sweep()
        if self._datagrams is not None:
            self._datagrams.leave()
        for listener in self.listeners:
            listener.close()  # a datagram transport has a duplicate, until it is drained

    async def drain(self, deadline: float) -> None:
        """Let the server say goodbye; `deadline` is a loop time.

        A header or handshake under way is let finish, and what follows it is drained like the rest;
        nobody waits for it to hear the goodbye.
        """
        for acceptor in self.acceptors:
            if acceptor.tls is None and acceptor.proxy is None and acceptor.door is None:
                await acceptor.wait_attached()
        more = True
        while more:
            more = any(acceptor.attaching() for acceptor in self.acceptors)
            await self.server.drain(deadline)
            for acceptor in self.acceptors:
                await acceptor.wait_attached()
        if self._datagrams is not None:
            self._datagrams.close()

    async def stop(self) -> None:
        """Close what is left of it."""
        if self._datagrams is not None:
            self._datagrams.close()
        for acceptor in self.acceptors:
            acceptor.stop()  # it has begun, if the worker's start failed after that
            if acceptor.door is not None:
                acceptor.door.close()
        await self.server.stop()
