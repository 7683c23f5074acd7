"""The sockets of ``?reuse_port`` and ``?sticky`` binds, one for each slot: who serves which.

Rule: imported where a worker has such a bind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from typing import TYPE_CHECKING, Any

from apihour.worker.accept import Acceptor

if TYPE_CHECKING:
    from apihour.bind.listeners import Listener

__all__ = ["OtherSlots"]

_LEFT_ALONE = 1.0  # seconds for which a slot without a worker is left alone: one is coming


class OtherSlots:
    """The sockets of one server that are for other workers than the one in `slot`."""

    slot = 0

    def __init__(
        self, listeners: Sequence[Listener],
        take: Callable[[Listener], Coroutine[Any, Any, None]],
    ) -> None:
        """`take` begins to serve, for good, a socket that has no acceptor."""
        self._listeners = listeners
        self._take = take
        self._vacated: list[Listener] = []  # what is taken for good, once its slot is
        self._taking: set[asyncio.Task[None]] = set()
        self._foreign: list[tuple[int, bool, Acceptor]] = []
        self._vacant: dict[int, float] = {}

    def is_own(self, listener: Listener) -> bool:
        """Whether the worker serves that socket.

        Where there are more workers than sockets, since the last reload, some share one for
        connections. A datagram's sender finds the same worker again, and so does a client of a
        ``?sticky`` bind, so those are not shared.
        """
        if listener.slot in (0, self.slot):
            return True
        if listener.kind == "datagram" or listener.address.sticky:
            return False
        place = listener.address.place
        sockets = max(one.slot for one in self._listeners if one.address.place == place)
        return listener.slot == (self.slot - 1) % sockets + 1

    def leave(self, listener: Listener, acceptor: Acceptor | None) -> None:
        """That one is another worker's; `acceptor` accepts on it when there is need."""
        if acceptor is None:
            self._vacated.append(listener)
        else:
            self._foreign.append((listener.slot, listener.address.sticky, acceptor))

    def has(self, acceptor: Acceptor) -> bool:
        """Whether that is an acceptor on another worker's socket."""
        return any(acceptor is foreign for *_, foreign in self._foreign)

    def mind(self, served: Set[int], wanted: int, now: float) -> None:
        """Accept on the sockets of slots that nobody serves; give them back later.

        `served` are the slots whose worker is alive and accepts. One of the first `wanted`
        slots gets a worker soon, and keeps its share of a burst until then; `now` in seconds.
        Datagrams wait for it; those of the slots beyond go to one worker, for good: what it
        has not answered yet would be lost. So do connections that a server accepts by itself.
        """
        for listener in list(self._vacated):
            if listener.slot > wanted > 0 and (listener.slot - 1) % wanted + 1 == self.slot:
                self._vacated.remove(listener)
                taking = asyncio.ensure_future(self._take(listener))
                self._taking.add(taking)
                taking.add_done_callback(self._taking.discard)
        for slot, is_sticky, acceptor in self._foreign:
            if slot in served:
                self._vacant.pop(slot, None)
                acceptor.stop()
            elif is_sticky and slot > wanted > 0 and (slot - 1) % wanted + 1 != self.slot:
                continue  # it is another worker's, for all clients that have it
            elif now - self._vacant.setdefault(slot, now) >= _LEFT_ALONE or slot > wanted:
                acceptor.start()
