"""The fleet: every worker of the daemon, and commands carried out on them.

Rules:

- Workers are found in the scoreboards of all arbiters of the runtime directory, so a
  session sees new workers come and old ones go, across reloads and upgrades.
- A worker has until its deadline. One that does not answer is named in ``missing`` with
  the reason, and the others' rows are returned: exit status 75.
- A stopped process is not waited for.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apihour.errors import ApihourError, ConfigurationError
from apihour.ipc.runtime import Runtime
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import built_in
from apihour.ops.jobs import place_arguments
from apihour.ops.model import Command, CommandFailed, Role
from apihour.ops.rows import to_rows
from apihour_console.commands import operations
from apihour_console.fleet.census import Census, Seen
from apihour_console.fleet.collected import Collected
from apihour_console.fleet.link import Link, Unreachable
from apihour_console.fleet.metrics import Meter
from apihour_console.fleet.rates import Rates
from apihour_console.fleet.trouble import Recent
from apihour_console.shell.calls import (
    FAILED,
    FORBIDDEN,
    UNKNOWN,
    USAGE,
    Call,
    Identity,
    Missing,
    Result,
)
from apihour_console.shell.context import ConsoleContext, Provider

__all__ = ["Fleet"]

_LOOK = 1.0  # seconds between looks for new workers
_PATIENCE = 1.8  # seconds a worker has to show that it hears, before it is waited for longer
_VALUES = 1.0  # seconds that values for completion are kept
_PENDING = 1000  # rows of a stream not taken yet, over all workers
_STATUS = {"role": FORBIDDEN, "usage": USAGE, "unknown": UNKNOWN}
STOPPED = "stopped by a signal: a stopped process cannot answer"


class Fleet:
    """All workers of one daemon; ``start()`` before use, ``close()`` after it."""

    def __init__(
        self, runtime: Runtime, logger: logging.Logger, disks: Mapping[str, str] | None = None,
    ) -> None:
        """`disks`: paths whose file systems matter, by what they are for."""
        self.runtime = runtime
        self.logger = logger
        self.census = Census(runtime)
        self.rates = Rates()
        self.recent = Recent()
        self.disks: Mapping[str, str] = dict(disks or {})
        self.meter = Meter(self)
        self.providers: dict[str, Provider] = {}
        self.refused_bans: Callable[[], Mapping[str, int]] = dict
        self.dumping: dict[int, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self._built_in = built_in()
        self._built_in.update(operations.commands)
        self._catalogue = self._visible(())
        self._known: frozenset[int] = frozenset()
        self._links: dict[int, Link] = {}
        self._values: dict[str, tuple[float, list[str]]] = {}
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
        """The rows of one command of one worker. Raises CommandFailed, of kind ``timeout``
        when it does not answer."""
        if worker.is_stopped:
            raise CommandFailed(STOPPED, "timeout")
        try:
            link = self.link(worker.row.pid)
            if deadline > _PATIENCE:  # is there anybody to wait for?
                await link.call("pulse", {}, role, _PATIENCE)
            return await link.call(command, arguments, role, deadline)
        except TimeoutError:
            raise CommandFailed("no answer in time", "timeout") from None
        except Unreachable as error:
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
                if answer.kind == "timeout":
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

    def _is_ours(self, command: Command) -> bool:
        return not command.application and command.name in operations.commands

    def _call(self, context: ConsoleContext) -> Any:
        entry = operations.commands.entry(context.call.command.name)
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
        workers = self.choose(_target(call))
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
        """The answer of one worker: a healthy one before others, the next when it is silent."""
        found = Collected()
        until = time.monotonic() + call.time_allowed
        for worker in sorted(workers, key=_fitness):
            left = until - time.monotonic()
            if left <= 0:
                break
            found = await self.collect(*ask, [worker], left)
            if not found.missing:
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
            rows = sorted(rows, key=lambda row: str(row.get("time", "")))
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
        pumps = _Pumps(self, call, role)
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
        at, values = self._values.get(kind, (0.0, []))
        if time.monotonic() - at > _VALUES:
            values = await self._ask_values(kind)
            self._values[kind] = (time.monotonic(), values)
        return values

    async def _ask_values(self, kind: str) -> list[str]:
        if kind == "command":
            return [one.name for one in self.catalogue]
        workers = self.choose()
        if kind == "worker":
            names = [one.row.worker for one in workers]
            return [*dict.fromkeys(str(one.row.slot) for one in workers), *names, "all"]
        asked = {"connection": ("conns", "id"), "task": ("tasks", "id"),
                 "server": ("servers", "name"), "logger": ("log", "logger")}.get(kind)
        if asked is None:
            return []
        if kind in ("server", "logger"):  # the same in all of them
            workers = sorted(workers, key=_fitness)[:1]
        found = await self.collect(asked[0], {}, Role.OBSERVER, workers, 0.5)
        return sorted({str(row[asked[1]]) for row in found.rows})


class _Pumps:
    """The streams of all workers as one; workers that come later are joined."""

    def __init__(self, fleet: Fleet, call: Call, role: Role) -> None:
        self.fleet = fleet
        self.call = call
        self.role = role
        self.queue: asyncio.Queue[dict[str, Any] | CommandFailed] = asyncio.Queue(_PENDING)
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        self.join(self.fleet.choose(_target(self.call)))
        looked = time.monotonic()
        while True:
            row: dict[str, Any] | CommandFailed | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    row = await self.queue.get()
            if row is None and not self.call.follows and self._is_over():
                return
            if time.monotonic() - looked >= _LOOK:
                self.join_new()
                looked = time.monotonic()
            if isinstance(row, CommandFailed):
                raise row
            if row is not None:
                yield row

    def _is_over(self) -> bool:
        return all(task.done() for task in self.tasks.values())

    def join_new(self) -> None:
        if self.call.command.scope != "all":
            return
        with contextlib.suppress(CommandFailed):  # those it named are gone: others may come
            self.join(self.fleet.choose(_target(self.call)), late=True)

    def join(self, workers: Sequence[Seen], late: bool = False) -> None:
        """Begin the streams of those workers; all the past of one that came `late` is new."""
        arguments = dict(self.call.arguments)
        if late and "lines" in arguments:
            arguments["lines"] = _PENDING
        if self.call.command.scope != "all":
            workers = sorted(workers, key=_fitness)[:1]
        for one in workers:
            if one.row.pid not in self.tasks and not one.is_stopped:
                self.tasks[one.row.pid] = asyncio.create_task(self.pump(one, arguments))

    async def pump(self, worker: Seen, arguments: Mapping[str, Any]) -> None:
        link = Link(self.fleet.runtime.agent_socket(worker.row.pid))
        stream = link.stream(self.call.command.name, arguments, self.role)
        try:
            async for row in stream:
                await self.queue.put(row)
        except Unreachable:
            if self.call.command.scope != "all":
                await self.queue.put(CommandFailed(f"worker {worker.row.worker}: it is gone"))
        except CommandFailed as error:
            await self.queue.put(error)

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def _fitness(worker: Seen) -> tuple[bool, bool, int]:
    """Orders workers by how likely they answer, the newest generation first."""
    return (worker.is_stopped or worker.is_stuck, worker.row.state != "serving",
            -worker.row.generation)


def _target(call: Call) -> str:
    """The selector of a call: a connection or a task says by itself which worker it is in."""
    for one in call.command.parameters:
        value = call.arguments.get(one.name)
        if isinstance(value, str) and one.type == "connection":
            return value.rpartition("-")[0] or call.worker
        if isinstance(value, str) and one.type == "task" and ":" in value:
            return value.partition(":")[0]
    return call.worker
