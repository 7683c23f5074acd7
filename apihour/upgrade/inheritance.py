"""Binary upgrade, the new arbiter's side: what it was handed, and its report.

Rule: it owns the daemon once every wanted worker is ready, and removes nothing before.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from apihour.bind.handing_over import handed_over
from apihour.bind.sockets import share_out
from apihour.books.books import Books
from apihour.books.part import ArbiterPart
from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ipc.channel import Channel
from apihour.ipc.runtime import Runtime
from apihour.upgrade.leftovers import look_for_leftovers

__all__ = ["Inheritance"]


class Inheritance(ArbiterPart):
    """The other end of :class:`apihour.upgrade.upgrade.Upgrade`."""

    def __init__(
        self, facts: dict[str, Any], books: Books, take_over: Callable[[], None]
    ) -> None:
        """`take_over` makes this arbiter the one that others find."""
        self.books = books
        self._take_over = take_over
        self._channel = Channel(socket.socket(fileno=facts["channel"]))
        self._channel.sock.set_inheritable(False)
        look_for_leftovers(books)
        listeners = [handed_over(one, one["fd"]) for one in facts["listeners"]]
        books.listeners = [one for one in listeners if not one.name.startswith("@")]
        books.extras = {one.name[1:]: one for one in listeners if one.name.startswith("@")}
        books.taking_over = True
        books.runtime = Runtime(str(facts["runtime"]))
        books.systemd = bool(facts["systemd"])
        books.generation = int(facts["generation"]) + 1
        books.releases = list(facts.get("releases", []))
        if facts.get("operator_workers"):
            books.scale(facts["operator_workers"])
        elif facts.get("workers"):
            books.num_workers = facts["workers"]
            books.num_workers = books.wanted_workers(books.cfg)

    def advance(self) -> None:
        """Take over once every wanted worker is ready."""
        books = self.books
        ready = [worker for worker in books.live_workers() if worker.ready]
        if not books.taking_over or len(ready) < books.num_workers:
            return
        share_out(books.listeners)
        books.taking_over = False
        self._take_over()
        self._channel.send(event="serving")
        self._channel.close()

    def fail(self, message: str, detail: str = "") -> None:
        """Tell the old arbiter why this one gives up."""
        if self.books.taking_over:
            self._channel.send(event="failed", message=excerpt(message, LINE),
                               detail=excerpt(detail, DETAIL))

    def shed(self) -> None:
        self._channel.close()
