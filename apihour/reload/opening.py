"""Opening sockets for a configuration that is not in force yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apihour.bind.addresses import BindAddress
from apihour.bind.listeners import Listener
from apihour.bind.sockets import open_binds, open_extras
from apihour.books.books import Books

__all__ = ["Opening", "log_binds"]


class Opening:
    """What a configuration asks to be opened."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def open_binds(
        self, binds: dict[str, list[BindAddress]], cfg: Any, have: list[Listener],
        named: Mapping[str, list[Any]] | None = None,
    ) -> list[Listener]:
        """Listeners for `binds`, those of `have` kept."""
        slots = max(self.books.wanted_workers(cfg), cfg.worker_count.maximum)
        return open_binds(binds, cfg, slots, have, named or {})

    @staticmethod
    def open_extras(cfg: Any, have: Mapping[str, Listener]) -> dict[str, Listener]:
        """The console's and health's own listeners under `cfg`, those of `have` kept."""
        return open_extras(cfg, have)


def log_binds(log: Any, before: Iterable[Listener], now: Iterable[Listener]) -> None:
    """Say which binds have been closed and opened; the slots of one are one."""
    old, new = ({str(x): None for x in those} for those in (before, now))
    for place in old:
        if place not in new:
            log.info("No longer listening at: %s", place)
    for place in new:
        if place not in old:
            log.info("Listening at: %s", place)
