"""The fleet: every worker of the daemon, and commands carried out on them.

Rules:

- Workers are found in the scoreboards of all arbiters of the runtime directory, so a
  session sees new workers come and old ones go, across reloads and upgrades.
- A worker has until its deadline. One that does not answer is named in ``missing`` with
  the reason, and the others' rows are returned: exit status 75.
- A stopped process is not waited for.
- What may change something is carried out once: where a worker that may have begun it does not
  answer, no other is asked in its place.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apihour.errors import ApihourError, ConfigurationError
from apihour.ipc.runtime import Runtime
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.jobs import place_arguments
from apihour.ops.model import Command, CommandFailed, Role
from apihour.ops.rows import to_rows
from apihour_console.calls.call import (
    FAILED,
    FORBIDDEN,
    PARTIAL,
    UNKNOWN,
    USAGE,
    Call,
    Identity,
    Missing,
    Result,
    in_time,
)
from apihour_console.fleet.census import Census, Seen
from apihour_console.fleet.choice import fitness, target
from apihour_console.fleet.collected import SILENT, Collected
from apihour_console.fleet.context import ConsoleContext, HostsView, Provider
from apihour_console.fleet.link import Absent, Link, Unreachable
from apihour_console.fleet.live_values import Values
from apihour_console.fleet.metrics import FleetMeter
from apihour_console.fleet.pumps import Pumps
from apihour_console.fleet.rates import Rates
from apihour_console.fleet.trouble import Recent

__all__ = ["Fleet"]

_LOOK = 1.0  # seconds between looks for new workers
_PATIENCE = 1.8  # seconds a worker has to show that it hears, before it is waited for longer
_STATUS = {"role": FORBIDDEN, "usage": USAGE, "unknown": UNKNOWN, "lost": PARTIAL}
_BEGINNING = 1.0  # seconds that a new worker has for its agent, before it is named
_STARTING = "it starts and does not answer yet; ask again once workers shows it as serving"
_ENDED = "it ended before it answered"
STOPPED = "stopped by a signal: a stopped process cannot answer"


class Fleet:
    """All workers of one daemon; ``start()`` before use, ``close()`` after it."""

    def __init__(
        self, runtime: Runtime, logger: logging.Logger, commands: Catalogue,
        disks: Mapping[str, str] | None = None,
    ) -> None:
        """`commands`: what the console carries out beside the agents; `disks`: paths whose file
        systems matter, by what they are for. Raises ConfigurationError for a command that has
        the name of an agents' one and does not say that it merges its rows.
        """
        self.runtime = runtime
        self.logger = logger
        self.census = Census(runtime)
        self.rates = Rates()
        self.recent = Recent()
        self.hosts: HostsView | None = None
        self.alone = "its console has just begun"
        """Why it is in no fleet of hosts."""
        self.disks: Mapping[str, str] = dict(disks or {})
        self.meter = FleetMeter(self)
        self.providers: dict[str, Provider] = {}
        self.refused_bans: Callable[[], Mapping[str, int]] = dict
        self.dumping: dict[int, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self._own = commands
        self._built_in = built_in()
        self._built_in.update(commands)
        self._catalogue = self._visible(())
        self._known: frozenset[int] = frozenset()
        self._links: dict[int, Link] = {}
        self._values = Values(self)
        self._watching: asyncio.Task[None] | None = None

    @property
    def catalogue(self) -> Catalogue:
        """Built-in commands and those of the application, as of the last look."""
        return self._catalogue

    async def start(self) -> None:
        """Look at the workers, and go on looking."""
        await self.refresh()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Hang up everywhere."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for link in self._links.values():
            link.close()
        self.census.close()

    # workers

    def choose(self, selector: str = "all") -> list[Seen]:
        """The workers of a selector: ``all``, slots, ``slot.generation``, parted by commas.

        Raises CommandFailed naming those there are when one names none.
        """
        there = self.census.workers()
        if selector == "all":
            return there
        chosen: list[Seen] = []
        for word in selector.split(","):
            found = [one for one in there if word in (one.row.worker, str(one.row.slot))]
            if not found:
                names = ", ".join(one.row.worker for one in there) or "no worker at all"
                raise CommandFailed(f"worker {word!r}: there is none; there is {names}", "usage")
            chosen += [one for one in found if one not in chosen]
        return chosen

    def link(self, pid: int) -> Link:
        """The connection to the agent of the worker of that pid."""
        found = self._links.get(pid)
        if found is None:
            found = self._links[pid] = Link(self.runtime.agent_socket(pid))
        return found

    async def ask(
        self, worker: Seen, command: str, arguments: Mapping[str, Any], role: Role,
        deadline: float,
    ) -> list[dict[str, Any]]:
        """The rows of one command of one worker.

        Raises CommandFailed: of kind ``timeout`` when it does not answer and has not begun it,
        ``lost`` when it may have.
        """
        if worker.is_stopped:
            raise CommandFailed(STOPPED, "timeout")
        kind = "timeout"
        try:
            link = self.link(worker.row.pid)
            if worker.row.state == "starting":
                await link.begin(role, min(deadline, _BEGINNING))
            if deadline > _PATIENCE:  # is there anybody to wait for?
                await link.call("pulse", {}, role, _PATIENCE)
            kind = "lost"
            return await link.call(command, arguments, role, deadline)
        except TimeoutError:
            raise CommandFailed("no answer in time", kind) from None
        except Unreachable as error:
            if kind == "lost" and not isinstance(error, Absent):
                raise CommandFailed(_ENDED, kind) from error
            if worker.row.state == "starting":
                raise CommandFailed(_STARTING, "timeout") from error
            raise CommandFailed(f"not reachable: {error}", "timeout") from error

    async def collect(
        self, command: str, arguments: Mapping[str, Any], role: Role, workers: Sequence[Seen],
        deadline: float,
    ) -> Collected:
        """Ask those workers, all at once."""
        found = Collected()
        answers = await asyncio.gather(
            *(self.ask(one, command, arguments, role, deadline) for one in workers),
            return_exceptions=True,
        )
        for worker, answer in zip(workers, answers, strict=True):
            if isinstance(answer, CommandFailed):
                if answer.kind in SILENT:
                    found.is_lost = found.is_lost or answer.kind == "lost"
                    found.missing.append(Missing(worker.row.worker, str(answer)))
                else:
                    found.failures.append((worker.row.worker, answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.rows += answer
        return found

    # commands

    async def execute(self, call: Call, identity: Identity) -> Result:
        """Carry out a call. Never raises for what a command or a worker does: see `status`."""
        try:
            identity.check(call.command)
            if call.hosts:
                return await self.hosts_there().execute(call, identity)
            if self._is_ours(call.command):
                return await self._carry_out(call, identity)
            return self._result(call, await self._fan_out(call, identity))
        except CommandFailed as error:
            status = _STATUS.get(error.kind, FAILED)
            return Result(status=status, error=str(error), detail=error.detail)
        except ApihourError as error:
            return Result(status=error.exit_status, error=str(error))
        except Exception as error:  # a fault of ours ends the command, never the session
            self.logger.exception("console: %s: internal error", call.command.name)
            return Result(status=FAILED, error=f"{call.command.name}: internal error: "
                                               f"{type(error).__name__}: {error}")

    def hosts_there(self) -> HostsView:
        """The fleet of hosts. Raises CommandFailed saying why this one is in none."""
        if self.hosts is None:
            raise CommandFailed(f"this host is in no fleet: {self.alone}", "usage")
        return self.hosts

    def _is_ours(self, command: Command) -> bool:
        return not command.application and command.name in self._own

    def _call(self, context: ConsoleContext) -> Any:
        entry = self._own.entry(context.call.command.name)
        if entry is None or entry.function is None:
            raise CommandFailed(f"{context.call.command.name}: not known here", "unknown")
        positional, options = place_arguments(context.call.command, context.call.arguments)
        return entry.function(context, *positional, **options)

    async def _carry_out(self, call: Call, identity: Identity) -> Result:
        context = ConsoleContext(self, call, identity)
        value = self._call(context)
        if inspect.isasyncgen(value):
            value = [row async for row in value]
        elif inspect.isawaitable(value):
            value = await value
        if isinstance(value, Result):
            return value
        return replace(Result.of(call, to_rows(value), context.missing), hints=context.hints)

    async def _fan_out(self, call: Call, identity: Identity) -> Collected:
        command = call.command
        workers = self.choose(target(call))
        if not workers:
            raise CommandFailed(f"{command.name}: no worker runs")
        ask = (command.name, call.arguments, identity.role)
        if command.scope == "all":
            return await self.collect(*ask, workers, call.time_allowed)
        if command.scope == "one":
            return await self._one_after_another(ask, workers, call)
        return await self._first(ask, workers, call)

    async def _one_after_another(
        self, ask: tuple[str, Mapping[str, Any], Role], workers: Sequence[Seen], call: Call
    ) -> Collected:
        """The answer of one worker: a healthy one before others, the next when it is silent.

        What may change something is not asked of the next where this one may have begun it.
        """
        found = Collected()
        until = time.monotonic() + call.time_allowed
        for worker in sorted(workers, key=fitness):
            left = until - time.monotonic()
            if left <= 0:
                break
            found = await self.collect(*ask, [worker], left)
            if not found.missing or (found.is_lost and call.may_act):
                break
        return found

    async def _first(
        self, ask: tuple[str, Mapping[str, Any], Role], workers: Sequence[Seen], call: Call
    ) -> Collected:
        """The first answer with a row in it; all are asked, the slower ones are cancelled."""
        waiting = {
            asyncio.create_task(self.collect(*ask, [one], call.time_allowed)) for one in workers
        }
        found = Collected()
        try:
            for done in asyncio.as_completed(waiting):
                found = await done
                if found.rows:
                    break
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return found

    def _result(self, call: Call, found: Collected) -> Result:
        if found.failures and not found.rows and not found.missing:
            worker, error = found.failures[0]
            raise CommandFailed(f"worker {worker}: {error}", error.kind, error.detail)
        rows = found.rows
        if call.command.streams:
            rows = in_time(rows)
        failed = [Missing(worker, str(error)) for worker, error in found.failures]
        return Result.of(call, rows, [*found.missing, *failed])

    # streams

    async def stream(
        self, call: Call, identity: Identity
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of a call as they come; closing the iterator ends it everywhere.

        Filters, order and limit of the call are the caller's to apply. Raises ApihourError.
        """
        identity.check(call.command)
        if call.hosts:
            stream = self.hosts_there().stream(call, identity)
            async with contextlib.aclosing(stream) as others:
                async for row in others:
                    yield row
            return
        if self._is_ours(call.command):
            async with contextlib.aclosing(self._call(ConsoleContext(self, call, identity))) as own:
                async for value in own:
                    for row in to_rows(value):
                        yield row
            return
        async with contextlib.aclosing(self.follow(call, identity.role)) as rows:
            async for row in rows:
                yield row

    async def follow(self, call: Call, role: Role) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of the workers alone, as they come."""
        pumps = Pumps(self, call, role)
        try:
            async for row in pumps.rows():
                yield row
        finally:
            await pumps.close()

    # what is known

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self.refresh()
            except Exception:  # a look that fails must not be the last one
                self.logger.exception("console: the look at the workers failed")

    async def refresh(self) -> None:
        """Learn the application's commands again when the workers are not the same ones."""
        there = self.census.workers()
        self.recent.note(time.monotonic(), there, self.census.daemons())
        for pid in self._links.keys() - {one.row.pid for one in there}:
            self._links.pop(pid).close()
            self.dumping.pop(pid, None)
        serving = [one for one in there if one.row.state == "serving" and not one.is_stuck]
        known = frozenset(one.row.pid for one in serving)
        if known == self._known or not serving:
            return
        newest = max(serving, key=lambda one: one.row.generation)
        found = await self.collect("catalogue", {}, Role.OBSERVER, [newest], 1.0)
        if not found.missing and not found.failures:
            self._known = known
            self._catalogue = self._visible(found.rows)

    def _visible(self, records: Sequence[Mapping[str, Any]]) -> Catalogue:
        catalogue = Catalogue()
        for command in self._built_in:
            if not command.hidden:
                catalogue.add(command)
        for record in records:
            try:
                command = Command.from_record({**record, "application": True, "collects": "loop"})
                catalogue.add(command)
            except ConfigurationError as error:
                self.logger.warning("console: a command of the application is left out: %s", error)
        return catalogue

    async def values(self, kind: str) -> list[str]:
        """What a word of that type may be now: worker, connection, task, server, logger..."""
        return await self._values.of(kind)
