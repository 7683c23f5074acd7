"""The network shell in the console process: brought up beside what must always answer.

Rules:

- Its libraries are imported in a thread: an import that hangs (a dead network file system)
  or fails (no directory for temporary files) holds up neither health nor ``apihour ctl``.
- What keeps it off is said once, and it is tried again, later and later.
- The modules that import those libraries are imported here only, by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import tempfile
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apihour.errors import ConfigurationError
from apihour_console.faces.shell_host import ShellHost
from apihour_console.fleet.fleet import Fleet
from apihour_console.shell.audit import AuditLog

if TYPE_CHECKING:
    from apihour_console.faces.ssh import ShellServer

__all__ = ["NetworkShell", "load"]

_SLOW = 10.0  # seconds of loading after which that is said, and nobody waits for it
_AGAIN = (1.0, 5.0, 30.0, 60.0)  # seconds until the next try, by failures in a row


class NetworkShell:
    """``start()``, then ``drain()`` and ``stop()``; in between it may be off."""

    def __init__(
        self, console: ShellHost, fleet: Fleet, audit: AuditLog, sockets: Sequence[socket.socket],
        module: str = "apihour_console.faces.front",
    ) -> None:
        self._console = console
        self._fleet = fleet
        self._audit = audit
        self._sockets = sockets
        self._module = module
        self._server: ShellServer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._first_try = asyncio.Event()

    async def start(self) -> None:
        """Return when the first try has ended, or takes long; go on trying."""
        self._starting = asyncio.create_task(self._keep_trying())
        try:
            async with asyncio.timeout(_SLOW):
                await self._first_try.wait()
        except TimeoutError:
            self._console.logger.error(
                "shell: its libraries have been loading for %g s; the network shell is off "
                "until they are there, the rest works", _SLOW)

    async def _keep_trying(self) -> None:
        said, failures = "", 0
        while True:
            try:
                front = await load(self._module, str(self._console.runtime.path))
                self._server = front.start(self._console, self._fleet, self._audit, self._sockets)
                return
            except Exception as error:
                what = str(error) if isinstance(error, ConfigurationError) else (
                    f"{type(error).__name__}: {error}")
                if what != said:
                    said = what
                    self._console.logger.error(
                        "shell: network shell off: %s; the rest works, trying again", what)
            finally:
                self._first_try.set()
            await asyncio.sleep(_AGAIN[min(failures, len(_AGAIN) - 1)])
            failures += 1

    def end_after(self, seconds: float) -> None:
        """See :meth:`ShellServer.end_after`."""
        if self._server is not None:
            self._server.end_after(seconds)

    async def drain(self, deadline: float, why: str) -> None:
        """See :meth:`ShellServer.drain`; one that is not up yet will not come up any more."""
        await self._stop_trying()
        if self._server is not None:
            await self._server.drain(deadline, why)

    async def stop(self) -> None:
        """End every session."""
        await self._stop_trying()
        if self._server is not None:
            await self._server.stop()

    async def _stop_trying(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._starting


def _import(name: str, temporary: str) -> Any:
    try:
        tempfile.gettempdir()
    except OSError:  # a read-only system: libraries that ask for one need no more than a name
        tempfile.tempdir = temporary
    return importlib.import_module(name)


async def load(name: str, temporary: str) -> Any:
    """Import a module in a thread of its own, which holds up the end of the process in nothing.

    `temporary`: the directory for temporary files where there is no other. Raises what the
    import raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(module: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(module)

    def work() -> None:
        module, error = None, None
        try:
            module = _import(name, temporary)
        except BaseException as raised:  # handed over, whatever it is
            error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, module, error)

    threading.Thread(target=work, name=f"import {name}", daemon=True).start()
    return await done
