"""A connection to an agent or to the arbiter: calls over :mod:`apihour.ipc.wire`.

Rules:

- Calls share one connection; a stream has one of its own, so a slow reader holds back
  only what it reads.
- A call that is cancelled here is cancelled there.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from apihour.ipc.wire import FrameError, Framer, encode
from apihour.ops.model import CommandFailed, Role

__all__ = ["Absent", "Link", "Unreachable"]

_CHUNK = 1 << 18
_BETWEEN = 0.02  # seconds between two looks whether a new worker answers


class Unreachable(CommandFailed):
    """Nobody answers at that socket."""


class Absent(Unreachable):
    """Nobody listens there: nothing was asked."""


class Link:
    """Calls to one socket; connects when first used, and again after it broke."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def call(
        self, command: str, arguments: Mapping[str, Any], role: Role, deadline: float,
    ) -> list[dict[str, Any]]:
        """The rows of one command.

        Raises CommandFailed with the kind the other side named, TimeoutError after
        `deadline` seconds, Unreachable when there is no other side.
        """
        async with asyncio.timeout(deadline):
            writer = await self._connect()
            number = next(self._numbers)
            inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            self._waiting[number] = inbox
            try:
                # The other side reports first, so that it can say what it is stuck in.
                writer.write(_request(number, command, arguments, role, deadline * 0.85))
                return await _gather(inbox, self.path)
            except (asyncio.CancelledError, TimeoutError):
                writer.write(encode({"id": number, "cancel": True}))
                raise
            finally:
                del self._waiting[number]

    async def begin(self, role: Role, within: float) -> None:
        """Wait for a worker that has just been forked, `within` seconds at most.

        Raises Unreachable, or TimeoutError, as :meth:`call` does.
        """
        end = time.monotonic() + within
        while True:
            try:
                await self.call("pulse", {}, role, within)
            except Unreachable:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_BETWEEN)
            else:
                return

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await _open(self.path)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        try:
            while data := await reader.read(_CHUNK):
                for message in framer.feed(data):
                    inbox = self._waiting.get(message.get("id", 0))
                    if inbox is not None:
                        inbox.put_nowait(message)
        except (OSError, FrameError):
            pass  # told to whoever waits, below
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
            for inbox in self._waiting.values():
                inbox.put_nowait(None)

    async def stream(
        self, command: str, arguments: Mapping[str, Any], role: Role
    ) -> AsyncIterator[dict[str, Any]]:
        """The rows of one command as they come. Raises as :meth:`call` does."""
        reader, writer = await _open(self.path)
        framer = Framer()
        try:
            writer.write(_request(1, command, arguments, role, None))
            while data := await reader.read(_CHUNK):
                for message in framer.feed(data):
                    for row in _rows(message):
                        yield row
                    if "end" in message or "result" in message:
                        return
        except OSError as error:
            raise Unreachable(f"{self.path.name}: {error.strerror or error}") from error
        finally:
            writer.close()

    def close(self) -> None:
        """Hang up; calls under way end as Unreachable."""
        if self._reading is not None:
            self._reading.cancel()


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(str(path))
    except OSError as error:
        raise Absent(f"{path.name}: {error.strerror or error}") from error


def _request(
    number: int, command: str, arguments: Mapping[str, Any], role: Role, deadline: float | None
) -> bytes:
    message = {"id": number, "command": command, "arguments": dict(arguments),
               "role": str(role), "deadline": deadline}
    return encode(message)


async def _gather(
    inbox: asyncio.Queue[dict[str, Any] | None], path: Path
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while (message := await inbox.get()) is not None:
        rows += _rows(message)
        if "end" in message or "result" in message:
            return rows
    raise Unreachable(f"{path.name}: the connection was closed")


def _rows(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "error" in message:
        raise CommandFailed(
            str(message["error"]), str(message.get("kind", "failed")),
            str(message.get("detail") or ""),
        )
    found = message.get("result", message.get("item", ()))
    return [one if isinstance(one, dict) else {"value": one} for one in found]
