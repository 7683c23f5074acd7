"""An engine that is a pool of connections: what databases of every kind have in common.

Rules:

- Nothing of a URL but host, port and database is ever shown; a password is put out of messages.
- What the configuration file says goes before what is said in code.
- A library is imported when an engine of it is configured, and not before.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from apihour.engines.budget import Alone, Budget
from apihour.engines.database_address import DatabaseAddress
from apihour.engines.driver import Driver, Purpose
from apihour.engines.pool import Pool
from apihour.engines.pool_options import Check, PoolOptions, check_options, is_text
from apihour.engines.slowest import Slowest
from apihour.engines.use import Use
from apihour.errors import ConfigurationError, EngineDownError, EngineError, one_line
from apihour.ipc.task_end import end_task
from apihour.masking import MASK
from apihour.resources import EngineContext
from apihour.secret import read_secret

__all__ = ["PooledEngine"]

_LOOK = 0.1  # seconds between two looks at what others want
_CHECK = 2.0  # seconds between two looks whether the server answers
_LINE_EVERY = 10.0  # seconds between two lines of a kind about uses that went wrong
_CONNECT: Check = (lambda value: isinstance(value, Mapping), "a mapping of the driver's arguments")


class PooledEngine:
    """Connections to the database at `url`, or the place of it: ``env:NAME``, ``file:PATH``,
    ``credential:NAME``. So for ``password``. The other options are those of
    :class:`apihour.engines.pool_options.PoolOptions`; ``connect`` has arguments of the driver.

    Raises ValueError for an option that is unknown or out of range.
    """

    kind = ""
    extra = ""
    """The extra of the package that installs what it needs."""
    module = ""
    """What it needs."""
    schemes: tuple[str, ...] = ()
    """Those of its URLs."""
    own: Mapping[str, Check] = {}
    """Its own options, beside the common ones."""

    def __init__(self, url: str = "", **options: Any) -> None:
        given = {"url": url, **options} if url else options
        check_options(given, self._expected())
        self.given = given
        self.options = PoolOptions.of(given)
        self.name = ""
        self.address = "?"
        self.slowest = Slowest()
        self.pool: Pool | None = None
        self._url = self._password = ""
        self._plain: Callable[[], AbstractAsyncContextManager[Any]] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_started = False
        self._next_lines: dict[str, float] = {}
        self.context: EngineContext

    @classmethod
    def _expected(cls) -> dict[str, Check]:
        common: dict[str, Check] = {
            name: (lambda value: True, "") for name in PoolOptions.names()}  # PoolOptions does
        text = (is_text, "a text, env:NAME, file:PATH or credential:NAME")
        return {**common, "url": text, "password": text, "connect": _CONNECT, **cls.own}

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same with these options in the place of those it has. Raises ValueError."""
        return type(self)(**{**self.given, **options})

    def examine(self) -> str:
        """Import what it needs and read its secrets; the address, without them.

        Raises ConfigurationError with one line. A credential that only the service has is
        left to its start.
        """
        self._import()
        place = str(self.given.get("url", ""))
        if place.startswith("credential:") and "CREDENTIALS_DIRECTORY" not in os.environ:
            return place
        return self._read()

    def _read(self) -> str:
        try:
            self._url = read_secret(str(self.given.get("url", "")))
            self._password = read_secret(str(self.given.get("password", "")))
            self.address = self.place(self._url)
        except ValueError as error:
            raise ConfigurationError(f"{self.title}: url: {error}") from None
        return self.address

    def _import(self) -> Any:
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise ConfigurationError(
                f"{self.title}: needs {self.module.partition('.')[0]}: "
                f"pip install 'apihour[{self.extra}]'") from error

    @property
    def title(self) -> str:
        """How messages call it: ``engine 'orders' (pg at db:5432/shop)``."""
        place = f" ({self.kind} at {self.address})" if self.address != "?" else ""
        return f"engine {self.name or self.kind!r}{place}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    # -- its life

    @property
    def health(self) -> bool:
        """Whether a worker is not ready while it is down."""
        return self.options.health

    @property
    def up(self) -> bool:
        """Whether the last try to reach it was a success."""
        return self.pool is not None and not self.pool.down

    async def start(self, context: EngineContext) -> None:
        """Make the first connection.

        Raises EngineError when that fails, unless ``at_start`` is ``retry``.
        """
        self.context, self.name = context, context.name
        self._import()
        self._read()
        self._trace(getattr(context.container, "tracer", None))
        pool = self.pool = Pool(
            self.title, self.make_driver(self._url, self._password), self._budget(context),
            self.options, self.explain, self._told)
        self._keeper = context.loop.create_task(self._keep())
        try:
            pool.release(await pool.take(self.options.start_timeout))
        except EngineError as error:
            if self.options.at_start == "fail":
                await self.close()  # who cleans up is told at once, and does not wait for it
                raise
            context.logger.error("%s; the worker serves without it, and goes on trying", error,
                                 extra={"apihour_event": f"engine {self.name} down"})
        self._is_started = True

    def _trace(self, tracer: Any) -> None:
        if tracer is not None:
            from apihour.engines.query_spans import SpannedQueries

            self.slowest = SpannedQueries(tracer, self.kind, self.address)

    def _budget(self, context: EngineContext) -> Budget:
        if context.shared is None:
            return Alone(self.options.max)
        budget: Budget = context.shared.leases(f"engines/{context.name}", self.options.max)
        return budget

    async def close(self) -> None:
        """Close its connections, and give back what it held."""
        if self._keeper is not None:
            await end_task(self._keeper)
            self._keeper = None
        if self.pool is not None:
            await self.pool.close()
            self.pool.budget.close()
            self.pool = None

    async def _keep(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_LOOK)
            looks += 1
            pool = self.pool
            if pool is None:
                continue
            try:
                was_cut = pool.spare()
                if looks % 10 == 0:
                    self._mend(pool)
                is_due = self.options.health and looks % int(_CHECK / _LOOK) == 0
                if was_cut or pool.down or is_due:
                    await pool.check()
            except Exception:  # a look that fails must not be the last one
                self.context.logger.exception("%s: a look at its connections failed", self.title)

    def _mend(self, pool: Pool) -> None:
        lost = pool.budget.mend()
        if not lost:
            return
        self.context.logger.error(
            "%s: %d of its connections are beyond max until they are closed: the runtime "
            "directory had vanished", self.title, len(lost))
        for slot in [slot for slot in pool.idle if slot.lease in lost]:
            pool.idle.remove(slot)
            pool.drop(slot)

    def _told(self, down: str) -> None:
        if not self._is_started:
            return  # the start tells what became of it
        if down:
            self.context.logger.error("%s is down: %s; trying again", self.title, down,
                                      extra={"apihour_event": f"engine {self.name} down"})
        else:
            self.context.logger.info("%s is back", self.title,
                                     extra={"apihour_event": f"engine {self.name} up"})

    def explain(self, error: BaseException) -> str:
        """One line of what a driver raised, without secrets."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        secrets = {self._password, self._url} | DatabaseAddress.secrets(self._url)
        for secret in sorted(secrets, key=len, reverse=True):
            if secret:
                text = text.replace(secret, MASK)
        return one_line(" ".join(text.split()))

    # -- what it is for

    def make_driver(self, url: str, password: str) -> Driver:
        """What speaks to the server."""
        raise NotImplementedError

    def place(self, url: str) -> str:
        """What of the URL may be shown. Raises ValueError for one of another kind."""
        return str(DatabaseAddress.of(url, self.schemes))

    def user(self, wanted: Purpose) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """What gives a connection for that. Raises ValueError when it cannot be had so."""
        return lambda: Use(self._running(), wanted, self)

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """``async with``: a connection, without a transaction."""
        if self._plain is None:
            self._plain = self.user(Purpose())
        return self._plain()

    def transaction(
        self, isolation: str = "", readonly: bool = False
    ) -> AbstractAsyncContextManager[Any]:
        """``async with``: a connection in a transaction, committed at the end of the block.

        It is rolled back when the block raises or is cancelled.
        """
        return self.user(Purpose(True, isolation, readonly))()

    def _running(self) -> Pool:
        if self.pool is None:
            raise EngineDownError(f"{self.title}: not started, or closed")
        return self.pool

    def count_error(self, error: BaseException) -> None:
        """A query has failed; one that was too late is answered as an engine that is busy is."""
        if self.pool is not None:
            self.pool.errors += 1
        if self.is_late(error):
            vars(error)["http_status"] = EngineError.http_status
            self._tell_now_and_then(
                "a statement took longer than it may, or gave way to another's", error)

    def _tell_now_and_then(self, what: str, error: BaseException) -> None:
        now = time.monotonic()
        if now >= self._next_lines.get(what, 0.0):
            self._next_lines[what] = now + _LINE_EVERY
            self.context.logger.warning("%s: %s (%s)", self.title, what, self.explain(error))

    def see_given_up(self, error: BaseException) -> None:
        """See :class:`apihour.engines.use.UseWatcher`."""
        if self.pool is not None:
            self.pool.errors += 1
        self._tell_now_and_then("a connection is closed, as its state is not known", error)

    def see_end(self, error: BaseException) -> None:
        """A block that had a connection is ended by this, of which its statement may have told.

        A plain TimeoutError may be of anything in the block: that of a statement is the library's.
        """
        if "http_status" not in vars(error) and self.is_late(error) and (
                not isinstance(error, TimeoutError) or self._is_of_library(error)):
            self.count_error(error)

    def _is_of_library(self, error: BaseException) -> bool:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        raised = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
        return raised.partition(".")[0] == self.module.partition(".")[0]

    def is_late(self, error: BaseException) -> bool:
        """Whether an error of the driver says that a statement took longer than it may.

        One that a deadlock or a conflict ended is none of its own fault, either: it may be tried
        again.
        """
        return isinstance(error, TimeoutError)

    def statistics(self) -> dict[str, Any]:
        """See :class:`apihour.resources.Engine`."""
        pool = self.pool
        seconds, query = self.slowest.told()
        found = {"kind": self.kind, "address": self.address, "up": self.up,
                 "max": self.options.max, "slowest": seconds, "slowest_query": query}
        if pool is None:
            return {**found, "size": 0, "busy": 0, "waiting": 0, "errors": 0}
        return {**found, "size": pool.size, "busy": pool.busy, "waiting": pool.waiting,
                "errors": pool.errors}
