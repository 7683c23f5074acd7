"""Servers and jobs that one worker alone has, as a worker that may be the one sees them.

Rule: read where a container has some.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from apihour.single.singles import Singles, see_singles
from apihour.worker.serving import Serving

__all__ = ["OnlyHere"]


class OnlyHere:
    """Those of one container; `once` says of each whether it is exclusive."""

    def __init__(
        self, host: Any, servers: Mapping[str, Serving], may_take: Callable[[], bool],
        retire: Callable[[], None],
    ) -> None:
        """Raises ConfigurationError for one that cannot be."""
        self.once: dict[str, bool] = see_singles(host.container, {
            name: [listener.address for listener in serving.listeners]
            for name, serving in servers.items()})
        self._container = host.container
        self._singles = Singles(
            host.runtime.path / "single", host.name, host.log.error_log, may_take, retire)

    def watch(
        self, servers: Mapping[str, Serving],
        begin: Callable[[Serving], Coroutine[Any, Any, None]],
    ) -> None:
        """From now on this worker may become the one; `begin` has a server of it accept."""
        for name in self.once:
            server = servers.get(name)
            if server is None:
                self._singles.watch_method(self._container, name)
            else:
                self._singles.watch(name, partial(begin, server))

    async def end(self, name: str, over: bool) -> None:
        """Leave a server, or a job, to another worker, if what there is of it here is `over`."""
        if await self._singles.end(name) and over:
            self._singles.release(name)

    def release(self, name: str) -> None:
        """Another worker may have it."""
        self._singles.release(name)
