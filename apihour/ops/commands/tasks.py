"""Commands about what a worker is doing: stacks, tasks, blocks of its loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Annotated, Any

from apihour.ops.annotations import Duration, Seconds, Short, Stack, TaskId, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.commands.servers import figures
from apihour.ops.model import CommandFailed
from apihour.ops.private import awaiters
from apihour.ops.rows import stamp
from apihour.ops.stacks import Block, Place, frames_of, place_of, places

commands = Catalogue()

_PAUSE = 50  # tasks looked at between two pauses; one takes some microseconds
_AWAITED = 100  # coroutines in one another that are followed
_WORKER = f"{os.sep}apihour{os.sep}worker{os.sep}"  # in paths of whichever release it is


@dataclass(frozen=True)
class StackRow:
    """One frame; `frame` 0 is the innermost. `state` and `blocked` are the thread's."""

    worker: str
    thread: str
    state: str
    blocked: Seconds
    frame: int
    file: str
    line: int
    function: str


@dataclass(frozen=True)
class TaskRow:
    """One task of the loop; `awaited_by` is the id of the task that waits for it.

    `age` counts from the first time it was seen: there is a look every five seconds.
    """

    id: str
    worker: str
    age: Seconds
    state: str
    where: str
    name: str
    coroutine: str
    awaited_by: str


@dataclass(frozen=True)
class SlowRow:
    """Something that took long; `time` is when it began.

    What blocks before the application is up is a ``start``: its line, without a stack.
    """

    worker: str
    time: str
    kind: str
    seconds: Seconds
    where: str
    stack: Stack


@commands.command()
def stack(
    context: AgentContext, worker: Worker | None = None,
    *, threads: Annotated[bool, "the other threads too"] = False,
) -> list[StackRow]:
    """Where each worker is right now, whatever it is stuck in.

    Args:
        worker: one worker only
    """
    watch = context.watch
    blocked, frame = watch.blocked(), watch.frame()
    state = "idle" if watch.idle(frame) else "running"
    if blocked:
        state = "blocked"
    elif watch.base is None:  # the loop has not turned yet
        state = "starting"
    rows = stack_rows(
        context.worker.name, "loop", state, blocked, of_worker(places(frame, watch.base)))
    if threads:
        rows += _other_threads(context)
    return rows


def of_worker(stack: list[Place]) -> list[Place]:
    """A stack without what is below the worker's ``run()``: the past of the arbiter."""
    for number, one in enumerate(stack, 1):
        if one.function.rpartition(".")[2] == "run" and _WORKER in one.file:
            return stack[:number]
    return stack


def stack_rows(
    worker: str, thread: str, state: str, blocked: float, stack: list[Place]
) -> list[StackRow]:
    """The rows of one thread."""
    return [
        StackRow(worker, thread, state, blocked, number, one.file, one.line, one.function)
        for number, one in enumerate(stack)
    ]


def _other_threads(context: AgentContext) -> list[StackRow]:
    import sys

    frames = sys._current_frames()
    rows: list[StackRow] = []
    for thread in threading.enumerate():
        if thread.ident != context.watch.thread and thread is not threading.current_thread():
            found = places(frames.get(thread.ident or 0))
            rows += stack_rows(context.worker.name, thread.name, "", 0.0, found)
    return rows


@commands.command()
def tasks(
    context: AgentContext, *, tree: Annotated[bool, "under the task that awaits them"] = False,
    all_: Annotated[bool, "those that apihour itself lives by too"] = False,
) -> Iterator[TaskRow | float]:
    """Tasks of the application, and the line each waits at"""
    rows: list[TaskRow] = []
    for row in _task_rows(context, all_):
        if not tree:
            yield row
            continue
        rows.append(row)
        if len(rows) % _PAUSE == 0:
            yield 0.001
    yield from as_tree(rows)


def _task_rows(context: AgentContext, own_too: bool) -> Iterator[TaskRow]:
    current = asyncio.current_task(context.worker.loop) if context.worker.loop else None
    for task in _all(context):
        running = context.watch.frame() if task is current else None
        if not own_too and is_own(task, running):
            continue
        where = place_of(places(running, context.watch.base) if running else task_places(task))
        parent = next(iter(awaiters(task)), None)
        yield TaskRow(
            _label(context, task), context.worker.name, context.agent.tasks.age(task),
            "running" if task is current else "waiting", str(where or ""), task.get_name(),
            getattr(task.get_coro(), "__qualname__", ""),
            _label(context, parent) if parent is not None else "",
        )


def is_own(task: asyncio.Task[Any], running: FrameType | None = None) -> bool:
    """Whether apihour itself lives by the task: all of its frames are ours or asyncio's.

    `running`: the frame of the loop's thread, when the task is running in it.
    """
    frames = [*task_frames(task), *frames_of(running)] if running else list(task_frames(task))
    roots = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames}
    ours = {root for root in roots if root == "apihour" or root.startswith("apihour_")}
    if running is not None and ours:
        return False  # what it is at now may be anybody's: it is worth to be seen
    if roots - ours - {"asyncio"}:
        return False
    return bool(ours) or any(is_own(one) for one in awaiters(task) if one is not task)


def as_tree(rows: Iterable[TaskRow]) -> Iterator[TaskRow]:
    """Each task above those it awaits, whose names are indented by two blanks a level.

    Tasks that await one another in a circle come last, as they are.
    """
    ids = {row.id for row in rows}
    below: dict[str, list[TaskRow]] = {}
    for row in rows:
        below.setdefault(row.awaited_by if row.awaited_by in ids else "", []).append(row)
    pending = [(0, row) for row in reversed(below.pop("", []))]
    while pending:
        level, row = pending.pop()
        yield replace(row, name="  " * level + row.name)
        pending += [(level + 1, one) for one in reversed(below.pop(row.id, []))]
    for left in below.values():
        yield from left


@commands.command()
def where(context: AgentContext, task: TaskId) -> list[StackRow]:
    """Stack of one task, through everything it awaits.

    Args:
        task: its id, as tasks shows it
    """
    found = _find(context, task)
    return stack_rows(context.worker.name, found.get_name(), "waiting", 0.0, task_places(found))


@commands.command(role="operator", collects="loop")
def cancel(context: AgentContext, *tasks: TaskId) -> list[TaskRow]:
    """Cancel tasks of the application; those the worker itself lives by are refused.

    Of several, those that are over by now are left out.

    Args:
        tasks: their ids, as tasks shows them
    """
    if len(tasks) == 1:
        return [_cancel(context, tasks[0], _find(context, tasks[0]))]
    found = [(label, task) for label in tasks if (task := _lookup(context, label)) is not None]
    return [_cancel(context, label, task) for label, task in found if not is_the_workers(task)]


def _cancel(context: AgentContext, label: str, task: asyncio.Task[Any]) -> TaskRow:
    if is_the_workers(task):
        raise CommandFailed(
            f"task {label!r}: the worker itself lives by it; to end the worker: "
            f"restart {context.worker.name}")
    row = TaskRow(label, context.worker.name, context.agent.tasks.age(task), "cancelled",
                  str(place_of(task_places(task)) or ""), task.get_name(),
                  getattr(task.get_coro(), "__qualname__", ""), "")
    task.cancel("cancelled from the shell")
    return row


@commands.command(streams=True)
def slow(
    context: AgentContext, *, follow: Annotated[bool, Short("f"), "go on as they happen"] = False,
    over: Annotated[Duration, "only what took longer"] = 0.1,
) -> Iterator[SlowRow | float]:
    """Times the loop was blocked, with the stack it was blocked in, and slow requests.

    A table shows the application's own frames, --json all of them. What blocks before the
    application is up (imports, say) is of the kind start, and has no stack.

    Blocks over a second are always seen, shorter ones by chance, and all while somebody
    follows.
    """
    watch = context.watch
    seen = max(0, watch.seen - len(watch.blocks))
    told: Collection[SlowRow] = ()
    if follow:
        seen, told = watch.seen, list(_slow_requests(context))
        watch.follow()
    try:
        while True:
            requests = list(_slow_requests(context))
            fresh = list(watch.blocks)[-(watch.seen - seen):] if watch.seen > seen else []
            seen = watch.seen
            rows = [one for one in requests if one not in told] + [
                _block_row(context.worker.name, one) for one in fresh
            ]
            yield from (row for row in rows if row.seconds >= over)
            if not follow:
                return
            told = requests
            yield 0.1
    finally:
        if follow:
            watch.unfollow()


def _block_row(worker: str, one: Block) -> SlowRow:
    kind, stack = ("start", ()) if one.at_start else ("block", one.stack)
    return SlowRow(worker, stamp(one.at), kind, one.seconds, one.where, "\n".join(stack))


def _slow_requests(context: AgentContext) -> Iterator[SlowRow]:
    """What plugins report under ``slow``: mappings with ``time``, ``seconds`` and ``what``."""
    for name, serving in list(context.worker.servers.items()):
        for one in figures(serving).get("slow", ()):
            yield SlowRow(context.worker.name, stamp(one["time"]), f"request {name}",
                          one["seconds"], str(one["what"]), "")


def task_places(task: asyncio.Task[Any]) -> list[Place]:
    """The line a task waits at, through the coroutines it awaits, innermost first."""
    found = [Place(one.f_code.co_filename, one.f_lineno or 0, one.f_code.co_qualname)
             for one in task_frames(task)]
    return found[::-1]


def task_frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of the coroutines in one another that a task awaits, outermost first."""
    coroutine: Any = task.get_coro()
    for _ in range(_AWAITED):
        frame: FrameType | None = next(
            (f for name in ("cr_frame", "gi_frame", "ag_frame")
             if (f := getattr(coroutine, name, None)) is not None), None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def is_the_workers(task: asyncio.Task[Any]) -> bool:
    """Whether it is the worker's main task, or an event that waits for its end."""
    if _file_of(task) == asyncio.locks.__file__:
        return any(_WORKER in _file_of(one) for one in awaiters(task))
    return _WORKER in _file_of(task)


def _file_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_filename if code is not None else ""


def _all(context: AgentContext) -> list[asyncio.Task[Any]]:
    loop = context.worker.loop
    return list(asyncio.all_tasks(loop)) if loop is not None else []


def _label(context: AgentContext, task: asyncio.Task[Any]) -> str:
    return context.worker.ids.write(":", context.agent.tasks.number(task))


def _lookup(context: AgentContext, label: str) -> asyncio.Task[Any] | None:
    number = context.worker.ids.read(":", label)
    if number is None:
        return None
    found = context.agent.tasks.find(number)
    return None if found is None or found.done() else found


def _find(context: AgentContext, label: str) -> asyncio.Task[Any]:
    found = _lookup(context, label)
    if found is None:
        raise CommandFailed(f"task {label!r:.80}: there is none of that id; it may be "
                            "over, tasks lists those there are",
                            "gone")
    return found
