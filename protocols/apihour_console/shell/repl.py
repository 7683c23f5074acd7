"""``python WORKER``: a Python prompt whose every line is evaluated in that worker's loop.

Rules:

- Nothing is evaluated here; text goes out, text comes back, by the command ``python``.
- Every source line is audited, with its outcome.
- Nothing but Ctrl-D and ``exit()`` leaves the prompt, not even a worker that is gone: what is
  typed or pasted for Python, or still on its way, never arrives as commands of the shell.
- Ctrl-C cancels what runs in the worker and gives the prompt back at once, saying which it
  was: interrupted, or a line that blocks the loop and so runs on; Ctrl-D leaves the prompt,
  not the shell.
"""

from __future__ import annotations

import ast
import asyncio
import codeop
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from apihour.errors import ApihourError
from apihour_console.calls.call import Call, Missing, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.shell.completion import Candidate
from apihour_console.shell.runner import CANCELLED
from apihour_console.text.render import clean

if TYPE_CHECKING:
    from apihour_console.shell.runner import Runner

__all__ = ["Repl", "blocks", "wants_more"]

_FATE = 0.5  # seconds in which a loop that is free answers
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."


class Repl:
    """One prompt; `ask` reads a line or block, `guard` runs one so that Ctrl-C cancels it."""

    def __init__(self, runner: Runner, worker: str, session: str) -> None:
        self._runner = runner
        self._worker = worker
        self._session = session

    def call(self, source: str, **flags: bool) -> Call:
        """The call that evaluates `source`."""
        words = ["python", self._worker, "--session", self._session]
        words += [f"--{name}" for name, value in flags.items() if value]
        return parse_call([*words, "--", source], self._runner.fleet.catalogue)

    async def loop(
        self, ask: Callable[[str], Awaitable[str]], guard: Callable[[Any], Awaitable[int]],
        tell: Callable[[str], None],
    ) -> int:
        """Read and evaluate until Ctrl-D or ``exit()``; what fails ends its own text only."""
        tell(f"Python in worker {self._worker}: container, worker, loop; await works; "
             "Ctrl-D leaves\n")
        while True:
            try:
                source = await ask(">>> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if source.strip() in ("exit", "exit()", "quit", "quit()"):
                return 0
            for one in blocks(source):
                status = await guard(self.evaluate(one)) if one.strip() else 0
                if status == CANCELLED:
                    tell(f"^C {await self._fate()}\n")
                if status:
                    break

    async def evaluate(self, source: str) -> int:
        """Evaluate one block and print what it gave; 1 when it raised."""
        runner, who = self._runner, self._runner.identity
        started, status, outcome = time.monotonic(), CANCELLED, "cancelled"
        if "\n" in source and not source.endswith("\n"):
            source += "\n"  # as codeop wants a block to end
        try:
            call = self.call(source)
            who.check(call.command)
            result = await runner.fleet.execute(call, who)
            status = await self._show(result)
            outcome = "ok" if status == 0 else "failed"
        except ApihourError as error:
            status, outcome = error.exit_status, "failed"
            await runner.sink.err(clean(str(error)) + "\n")
        finally:
            runner.audit.record_of(
                "python", who, command=source, workers=self._worker, outcome=outcome,
                status=status, duration=time.monotonic() - started,
            )
        return status

    async def _fate(self) -> str:
        """What became of a line that was cancelled: whether its worker's loop is free again."""
        try:
            async with asyncio.timeout(_FATE):
                result = await self._runner.fleet.execute(
                    self.call("_", complete=True), self._runner.identity
                )
        except TimeoutError:
            result = Result(missing=[Missing(self._worker, "")])
        if result.error:
            return clean(result.error)
        if result.missing:
            return (f"the line still runs in worker {self._worker}: it blocks the loop there; "
                    f"stack {self._worker} shows where")
        return "interrupted"

    async def _show(self, result: Result) -> int:
        failed = False
        for row in result.rows:
            await self._runner.sink.out(clean(str(row.get("output") or "")))
            failed = failed or bool(row.get("failed"))
        for one in result.missing:
            await self._runner.sink.err(f"worker {one.worker}: {clean(one.reason)}\n")
        if result.error:
            await self._runner.sink.err(clean(result.error) + "\n")
        return 1 if failed and not result.status else result.status

    async def complete(self, text: str) -> AsyncGenerator[Candidate, None]:
        """Names that may continue the text before the cursor."""
        word = text[len(text.rstrip(_NAME)):]
        if not word:
            return
        result = await self._runner.fleet.execute(
            self.call(word, complete=True), self._runner.identity
        )
        for row in result.rows:
            for name in row.get("completions") or ():
                yield Candidate(clean(str(name)), len(word))


def wants_more(source: str) -> bool:
    """Whether the text so far is the beginning of a block: another line is expected."""
    last = source.rpartition("\n")[2]
    if "\n" in source and not last.strip():
        source = source[: len(source) - len(last)]
    return not _is_complete(source, "exec") or not _is_complete(blocks(source)[-1], "single")


def blocks(source: str) -> list[str]:
    """The statements of a pasted text, each as typed; the text itself when it is not Python."""
    try:
        tree = compile(
            source, "<shell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return [source]
    starts = [
        min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        for node in tree.body
    ]
    if len(set(starts)) < 2:
        return [source]
    lines = source.split("\n")
    ends = [*(start - 1 for start in starts[1:]), len(lines)]
    return [
        "\n".join(lines[start - 1 : end]) for start, end in zip(starts, ends, strict=True)
        if end >= start
    ]


def _is_complete(source: str, symbol: str) -> bool:
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        return compiler(source, "<shell>", symbol) is not None
    except (SyntaxError, ValueError, OverflowError):
        return True  # the worker says what is wrong with it
