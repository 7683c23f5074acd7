"""``container.ops``: the operations catalogue from Python, by way of the console.

``await container.ops.conns(sort="-age", limit=5)`` is ``conns --sort -age --limit 5`` typed
by an admin of this machine, and gives the same rows. A stream (``logs(follow=True, limit=5)``)
gives its rows when it is over, so it wants a limit.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from apihour.ipc.daemons import has_arbiter, read_instance
from apihour.ipc.runtime import Runtime
from apihour.ipc.wire import Framer, encode
from apihour.ops.model import CommandFailed

__all__ = ["Operations", "Rows"]

_PARTIAL = 75
_CHUNK = 1 << 18
_CONNECT = 5.0  # seconds; a console starts in well under one
_AGAIN = 0.05  # seconds between two tries to connect


class Rows(list[dict[str, Any]]):
    """The rows of a command; ``missing`` has a line for each worker that did not answer."""

    missing: Sequence[str] = ()


class Operations:
    """Every command of the shell as an async method."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Rows]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def run(*words: Any, **options: Any) -> Rows:
            return await self.run(name.rstrip("_").replace("_", "-"), *words, **options)

        return run

    async def run(self, command: str, *words: Any, **options: Any) -> Rows:
        """Run `command`; options by their names, ``follow=True`` for one without a value.

        Raises CommandFailed when it fails, and when no console runs (``--no-console``).
        """
        typed = [command, "--json", *_typed(options), "--", *map(str, words)]
        reader, writer = await self._connect()
        try:
            writer.write(encode({"id": 1, "command": "run", "arguments": {"words": typed}}))
            return await _read(reader, command)
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the console; one that is just being started or replaced is waited for."""
        deadline = time.monotonic() + _CONNECT
        while True:
            try:
                return await asyncio.open_unix_connection(str(self._runtime.console_socket))
            except OSError as error:
                there = read_instance(self._runtime).get("console") is not False
                if not there or time.monotonic() > deadline or not has_arbiter(self._runtime):
                    raise CommandFailed(
                        f"ops: the console does not answer: {error.strerror}; expected one, in a "
                        "daemon started without --no-console") from error
            await asyncio.sleep(_AGAIN)


def _typed(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        option = "--" + name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(f"{option}={value}")
    return words


async def _read(reader: asyncio.StreamReader, command: str) -> Rows:
    framer = Framer()
    out: list[str] = []
    err: list[str] = []
    while data := await reader.read(_CHUNK):
        for message in framer.feed(data):
            item = message.get("item", {})
            out.append(item.get("out", ""))
            err += [item["err"].strip()] if item.get("err") else []
            if "result" in message or "error" in message:
                status = message.get("result", {}).get("status", 1)
                return _rows(command, status, "".join(out), err or [message.get("error", "")])
    raise CommandFailed(f"{command}: the console went away")


def _rows(command: str, status: int, out: str, err: list[str]) -> Rows:
    if status not in (0, _PARTIAL):
        raise CommandFailed(err[0].partition("\n")[0] or f"{command}: exit status {status}")
    # A stream is an object a line, with blanks between them; all else is one array.
    streams = not out.startswith("[")
    found = [json.loads(line) for line in out.splitlines() if line.strip()] if streams else None
    rows = Rows(json.loads(out) if found is None else found)
    rows.missing = tuple(line for line in err if line) if status == _PARTIAL else ()
    return rows
