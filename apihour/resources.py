"""What a worker holds for its requests: the shapes of engines, and of annotations that provide.

Rules:

- Both are recognised by their shape: a package may offer one without importing this one.
- An engine is of one worker and one event loop. It is started before the container's ``start()``
  and closed after its ``cleanup()``.
- A provider stands in the annotation of a parameter, ``Annotated[T, provider]``. What it needs is
  settled once, at the server's start, so that a call pays for what it opens and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["ArgumentProvider", "Engine", "EngineContext"]


@dataclass(frozen=True)
class EngineContext:
    """What an engine is told when it starts: who it is and where it runs.

    ``shared`` is the container's store, whose leases bound what all workers have together; None
    where there is no daemon.
    """

    name: str
    container: Any
    loop: asyncio.AbstractEventLoop
    logger: logging.Logger
    shared: Any = None


@runtime_checkable
class Engine(Protocol):
    """A resource with a lifecycle: a database, a cache, a client.

    ``health`` says that a worker is not ready while the engine is not ``up``.
    """

    kind: str
    """What it is, one word: ``pg``, ``redis``, ``http``."""
    health: bool

    @property
    def up(self) -> bool:
        """Whether it works, as far as is known."""

    def configured(self, options: Mapping[str, Any]) -> Engine:
        """The same with these options of the configuration. Raises ValueError."""

    async def start(self, context: EngineContext) -> None:
        """Get ready; raises when the worker is not to serve without it."""

    async def close(self) -> None:
        """Let go of everything. Called after a partial start as well."""

    def statistics(self) -> Mapping[str, Any]:
        """How it is now, JSON-able; called from another thread too.

        ``address`` (without secrets), ``size``, ``busy``, ``waiting``, ``max``, ``errors``
        (since start), ``slowest`` (seconds, of the last minutes) and ``slowest_query``.
        """


class ArgumentProvider(Protocol):
    """An annotation of a parameter that knows where the argument comes from."""

    def key(self, parameter: str) -> Hashable:
        """What the argument of that parameter is known by.

        Within one request there is one of a key; tests put another in its place by it.
        """

    def provide(
        self, parameter: str, container: Any
    ) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """What opens the argument for one request: entered before the call, left after it.

        Called once, at start. Raises LookupError or ValueError when there is no such thing.
        """
