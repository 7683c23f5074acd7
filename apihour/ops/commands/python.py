"""Python in a worker's loop: evaluate source with top-level await, complete a name.

Rules:

- Admin only, and only where the daemon was started with ``--shell-python``.
- A session keeps its names between calls. What it prints goes to its caller and nobody
  else, also across an ``await``: the output is bound to the context of the evaluation.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import inspect
import io
import sys
import traceback
from dataclasses import dataclass
from types import CodeType
from typing import Annotated, Any

from apihour.ops.annotations import Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed

commands = Catalogue()

_SESSIONS = 8  # per worker; the one unused for longest goes
_OUTPUT = 1 << 20  # characters of one answer
_COMPLETIONS = 100

_output: contextvars.ContextVar[io.StringIO] = contextvars.ContextVar("apihour_python_output")


@dataclass(frozen=True)
class Evaluation:
    """What a piece of source gave. `more`: it is not complete yet, another line is expected."""

    worker: str
    output: str
    failed: bool = False
    more: bool = False
    completions: tuple[str, ...] = ()


class _Printed(io.TextIOBase):
    """Stands in for sys.stdout: text goes to the evaluation that wrote it, if one did."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def write(self, text: str) -> int:
        buffer = _output.get(None)
        if buffer is None:
            return int(self.real.write(text))
        return buffer.write(text[: max(0, _OUTPUT - buffer.tell())])

    def flush(self) -> None:
        self.real.flush()


class _Display:
    """Stands in for sys.displayhook, for good: evaluations overlap, and would restore each
    other's."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __call__(self, value: object) -> None:
        if _output.get(None) is None:
            self.real(value)
        elif value is not None:
            print(repr(value)[:_OUTPUT])


@commands.command(role="admin", collects="loop", deadline=3600.0, scope="one")
async def python(
    context: AgentContext, worker: Worker, source: str = "",
    *, session: Annotated[str, "names are kept under this name"] = "",
    complete: Annotated[bool, "list what the source may go on with"] = False,
) -> list[Evaluation]:
    """Evaluate Python in the loop of a worker; `container` is there, and so is await.

    Args:
        worker: where
        source: what; without it the shell asks line by line
    """
    if not getattr(context.worker.cfg, "shell_python", False):
        raise CommandFailed("python: off here; start the daemon with --shell-python", "role")
    names = _session(context, session)
    if complete:
        return [Evaluation(context.worker.name, "", completions=_complete(source, names))]
    import codeop

    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        code = compiler(source, "<shell>", "single")
    except (SyntaxError, ValueError, OverflowError):
        return [Evaluation(context.worker.name, _problem(), failed=True)]
    if code is None:
        return [Evaluation(context.worker.name, "", more=True)]
    return [await _evaluate(context.worker.name, code, names)]


def _session(context: AgentContext, name: str) -> dict[str, Any]:
    sessions = context.agent.sessions
    names: dict[str, Any] | None = sessions.pop(name, None)
    if names is None:
        worker = context.worker
        names = {"__name__": "__shell__", "__builtins__": __builtins__, "asyncio": asyncio,
                 "container": worker.container, "worker": worker, "loop": worker.loop}
    if name:
        sessions[name] = names
        while len(sessions) > _SESSIONS:
            del sessions[next(iter(sessions))]
    return names


async def _evaluate(worker: str, code: CodeType, names: dict[str, Any]) -> Evaluation:
    buffer, failed = io.StringIO(), False
    token = _output.set(buffer)
    if not isinstance(sys.stdout, _Printed):
        sys.stdout = _Printed(sys.stdout)
    if not isinstance(sys.displayhook, _Display):
        sys.displayhook = _Display(sys.displayhook)
    try:
        value = eval(code, names)
        if inspect.isawaitable(value):
            await value
    except (Exception, SystemExit):
        buffer.write(_problem())
        failed = True
    finally:
        _output.reset(token)
    return Evaluation(worker, buffer.getvalue(), failed)


def _problem() -> str:
    """The traceback, from the source typed inwards."""
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename != "<shell>":
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace))


def _complete(text: str, names: dict[str, Any]) -> tuple[str, ...]:
    import rlcompleter

    completer = rlcompleter.Completer(names)
    found: list[str] = []
    for state in range(_COMPLETIONS):
        one = completer.complete(text, state)
        if one is None:
            break
        found.append(one)
    return tuple(dict.fromkeys(found))
