"""The console's local control socket, and ``apihour ctl``, which talks to it.

Rules:

- A unix socket, 0600, in the daemon's 0700 directory; the peer's uid is checked as well
  (SO_PEERCRED, unix(7)) and is the whole authority: same uid or root is admin.
- The command runs and is rendered in the console, so the output is that of ``ssh host``.
- A client that goes away, or says so, cancels its command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError
from apihour.ipc.peer_socket import PeerListener, peer_uid
from apihour.ipc.wire import FrameError, Framer, encode
from apihour.ops.model import Role
from apihour_console.calls.call import FAILED, Identity
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.runner import CANCELLED, FleetLike, LeaveShell, Runner

__all__ = ["LocalServer"]

_CLIENTS = 64  # connections that wait to be accepted
_MAXIMUM = 256 * 1024  # bytes of one request: a command line
_FINISH = 2.0  # seconds that commands under way have when another console takes over


class LocalServer:
    """Serves ``apihour ctl``."""

    def __init__(
        self, path: Path, fleet: FleetLike, audit: AuditLog, logger: logging.Logger
    ) -> None:
        self._path = path
        self._fleet = fleet
        self._audit = audit
        self._logger = logger
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._listener: PeerListener | None = None
        self._accepting = True

    async def start(self) -> None:
        """Listen. A socket left behind, or an older console's, is replaced.

        In a runtime directory that has vanished, :meth:`mend` does it later.
        """
        if not self._path.parent.is_dir():
            return
        try:
            self._listener = PeerListener(self._path, _CLIENTS)
        except OSError as error:
            raise ConfigurationError(f"control socket {self._path}: {error.strerror}") from error
        self._server = await asyncio.start_unix_server(self._accepted, sock=self._listener.sock)

    async def mend(self) -> None:
        """Listen again where the runtime directory vanished and is back."""
        if not self._accepting or self._path.exists() or not self._path.parent.is_dir():
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        try:
            await self.start()
        except ConfigurationError as error:  # it goes in this moment, or is full: the next look
            self._logger.debug("%s", error)

    def stop_accepting(self) -> None:
        """Take no more clients."""
        self._accepting = False
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.unlink()

    async def finish(self) -> None:
        """Wait a moment for those there are: the answer to a reload comes with this one's end."""
        if self._clients:
            await asyncio.wait(self._clients, timeout=_FINISH)

    async def stop(self) -> None:
        """End everything."""
        self.stop_accepting()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        try:
            identity = _peer(writer.get_extra_info("socket"))
            if identity is not None:
                await _LocalClient(reader, writer, self._fleet, self._audit, identity).serve()
        except (ConnectionError, FrameError) as error:
            self._logger.debug("control socket: %s", error)
        except asyncio.CancelledError:
            if not writer.is_closing():
                writer.write(encode({"id": 0, "error": "the console ends", "kind": "failed"}))
        finally:
            writer.close()


def _peer(sock: Any) -> Identity | None:
    """Who is at the other end; None when they may not be there."""
    uid = peer_uid(sock)
    if uid not in (0, os.geteuid()):
        return None
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Identity(name=name, role=Role.ADMIN, address="local")


class _LocalClient:
    """One connection: one command at a time, its output as items."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fleet: FleetLike,
        audit: AuditLog, identity: Identity,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._fleet = fleet
        self._audit = audit
        self._identity = identity
        self._id: Any = None
        self._task: asyncio.Task[None] | None = None
        self.width: int | None = None
        self.height: int | None = None
        self.colour = False
        self.leaves_unnoticed = False  # the client watches its stdout

    async def out(self, text: str) -> None:
        await self._item({"out": text})

    async def draw(self, text: str) -> None:
        await self.out(text)

    async def err(self, text: str) -> None:
        await self._item({"err": text})

    async def _item(self, item: dict[str, str]) -> None:
        self._writer.write(encode({"id": self._id, "item": item}))
        await self._writer.drain()

    async def serve(self) -> None:
        """Take requests until the client goes."""
        framer = Framer(_MAXIMUM)
        try:
            while data := await self._reader.read(64 * 1024):
                for message in framer.feed(data):
                    await self._handle(message)
        finally:
            if self._task is not None and not self._task.done():
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def _handle(self, message: dict[str, Any]) -> None:
        if message.get("cancel"):
            if self._task is not None:
                self._task.cancel()
            return
        words = message.get("arguments", {}).get("words")
        if message.get("command") != "run" or not _are_words(words):
            raise FrameError("expected the command 'run' with words")
        if self._task is not None and not self._task.done():
            raise FrameError("a command is under way; expected one at a time")
        width = message["arguments"].get("width")
        self.width = min(max(width, 20), 1000) if isinstance(width, int) else None
        height = message["arguments"].get("height")
        self.height = min(max(height, 5), 500) if isinstance(height, int) else None
        self.colour = bool(message["arguments"].get("colour"))
        self._id = message.get("id")
        self._task = asyncio.get_running_loop().create_task(self._run(words))

    async def _run(self, words: list[str]) -> None:
        runner = Runner(self._fleet, self._audit, self._identity, self, {"exit": _leave})
        status = FAILED
        try:
            status = await runner.run(words)
        except LeaveShell:
            status = 0
        except asyncio.CancelledError:
            status = CANCELLED
        except ConnectionError:
            return
        finally:
            if not self._writer.is_closing():
                self._writer.write(encode({"id": self._id, "result": {"status": status}}))


async def _leave(call: Any) -> int:
    raise LeaveShell


def _are_words(words: Any) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)
