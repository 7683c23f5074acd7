"""Clients of believed proxies that are banned: their requests are refused, the proxy's are not.

Rules:

- The host refuses banned peers at its door; whom a proxy speaks for is told by a head, so it is
  judged here: 403, and the connection, which is the proxy's, closes.
- Without a ban nothing of this is on a request's way. While there is one, connections from
  believed proxies judge each new head by its client, and leave the compiled way; others do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from apihour_http.errors import HTTPError
from apihour_http.head import FORWARDED
from apihour_http.service import Service

__all__ = ["BannedClients", "HostBans"]


class HostBans(Protocol):
    """Who is banned, as a host tells its servers."""

    watchers: list[Callable[[], None]]
    """Called whenever it is somebody else."""

    def __len__(self) -> int: ...

    def refuses(self, peer: Any) -> bool:
        """Whether that address (a host and a port) is banned; counts it."""


class BannedClients:
    """Has the connections of one server refuse them; `slow_plan` is without the compiled way."""

    def __init__(self, service: Service, bans: HostBans, slow_plan: Any) -> None:
        self._service = service
        self._bans = bans
        self._slow_plan = slow_plan
        self._judging = dataclasses.replace(service, check_head=self._check_head)
        bans.watchers.append(self.heed)

    def stop(self) -> None:
        """The server has stopped."""
        self._bans.watchers.remove(self.heed)

    def heed(self) -> None:
        """There are other bans than before: what a connection's last head was counts anew."""
        for lane in self._service.opened.all:
            self.take(lane)

    def take(self, lane: Any) -> None:
        """Have the connection `lane` judge its heads, as long as anybody is banned."""
        service, intake = self._service, lane.intake
        if not self._bans:
            intake.service, lane.plan = service, service.plan
            return
        if lane.is_proxy is None:
            lane.origin([])  # asks whether it is one
        if lane.is_proxy:
            intake.service, lane.plan = self._judging, self._slow_plan
            intake.last_fields = []

    def _check_head(self, fields: list[tuple[bytes, bytes]], large: bool) -> int:
        seen = self._service.check_head(fields, large)
        if seen & FORWARDED:
            origin = self._service.forwarding.origin(fields)
            if origin is not None and origin.remote and self._bans.refuses((origin.remote, 0)):
                raise HTTPError(403, "this address is banned")
        return seen
