"""Annotations by which an endpoint says that it wants a connection of an engine.

::

    async def agents(request, pg: Annotated[asyncpg.Connection, Transaction()]): ...

The engine is the one of the parameter's name, unless it is said: ``Transaction("orders")``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from apihour.engines.driver import Purpose
from apihour.resources import Engine

__all__ = ["Resource", "Transaction"]


@dataclass(frozen=True)
class Resource:
    """A connection of the engine, without a transaction: each statement is one."""

    engine: str = ""

    def key(self, parameter: str) -> str:
        """The name of the engine: of each there is one connection in a request."""
        return self.engine or parameter

    def wanted(self) -> Purpose:
        """What the engine is asked for."""
        return Purpose()

    def provide(
        self, parameter: str, container: Any
    ) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """See :class:`apihour.resources.ArgumentProvider`."""
        name = self.key(parameter)
        engines = getattr(container, "engines", {})
        engine = engines.get(name)
        user: Callable[[Purpose], Any] | None = getattr(engine, "user", None)
        if user is None or not isinstance(engine, Engine):
            there = ", ".join(sorted(engines)) or "none"
            what = f"a {type(engine).__name__}" if engine is not None else f"there is {there}"
            raise LookupError(f"engine {name!r}: {what}; expected one of make_engines() or of "
                              "the configuration")
        try:
            use = user(self.wanted())
        except ValueError as error:
            raise ValueError(f"engine {name!r}: {error}") from None
        return lambda request: use()


@dataclass(frozen=True)
class Transaction(Resource):
    """A connection in a transaction, which commits when the endpoint returns.

    It rolls back on an exception, a cancelled request and a timeout. `isolation` is one of
    ``read_committed``, ``repeatable_read`` and ``serializable``; the server's default else.
    """

    isolation: str = ""
    readonly: bool = False

    def wanted(self) -> Purpose:
        """What the engine is asked for."""
        return Purpose(True, self.isolation, self.readonly)
