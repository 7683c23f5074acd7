"""Sessions in memory: a channel without a network below, an operator who types above."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

from apihour.ops.model import Role
from apihour_console.calls.call import Identity
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.command_shell import ShellContext
from apihour_console.shell.session import Session
from tests.apihour_console.support import plain

LOGGER = logging.getLogger("tests.console")


class MemoryChannel:
    """What a session needs of asyncssh's channel; remembers what was written."""

    def __init__(self) -> None:
        self.written = ""
        self.came = asyncio.Event()
        self.status: int | None = None

    def write(self, data: bytes, datatype: int | None = None) -> None:
        self.written += data.decode()
        self.came.set()

    def exit(self, status: int) -> None:
        self.status = status
        self.came.set()

    def is_closing(self) -> bool:
        return self.status is not None

    def get_environment(self) -> dict[str, str]:
        return {}

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.exit(255)

    def close(self) -> None:
        self.exit(0)


class Operator:
    """One interactive session and the hands at its terminal."""

    def __init__(
        self, fleet: Any, audit: AuditLog, number: int = 1, role: Role = Role.ADMIN,
        size: tuple[int, int] = (100, 30), directory: Path | None = None, kind: str = "xterm",
        command: str | None = None,
    ) -> None:
        self.number = number
        self.fingerprint = f"SHA256:key{number}"
        identity = Identity(f"user{number}", self.fingerprint, role, f"192.0.2.{number}")
        context = ShellContext(fleet, audit, identity, LOGGER, directory=directory)
        self.channel = MemoryChannel()
        self.audit = audit
        self.session = Session(context, LOGGER, lambda session: None)
        self.session.connection_made(self.channel)
        self.session.pty_requested(kind, (*size, 0, 0), {})
        if command is not None:
            self.session.exec_requested(command)
        self.session.session_started()
        self._read = 0

    @property
    def raw(self) -> str:
        """Everything written to this terminal."""
        return self.channel.written

    @property
    def text(self) -> str:
        """What came since the last match, without escape sequences."""
        return plain(self.raw[self._read:])

    def send(self, text: str) -> None:
        """Bytes arrive in one piece."""
        self.session.data_received(text.encode(), None)

    async def type(self, text: str) -> None:
        """Bytes arrive one by one, and others are served in between."""
        for character in re.findall(r"\x1b\[[0-9;]*[A-Za-z~]|.", text, re.DOTALL):
            self.send(character)
            await asyncio.sleep(0.001)

    async def expect(self, pattern: str, timeout: float = 30.0) -> str:
        """Wait until the pattern was printed since the last match; returns what it matched."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    text = self.text
                    found = re.search(pattern, text, re.DOTALL)
                    if found:
                        self._read = len(self.raw)
                        return text
                    self.channel.came.clear()
                    await self.channel.came.wait()
        except TimeoutError:
            seen = f"{pattern!r} not in {self.text[-3000:]!r}"
            raise AssertionError(f"{self.number}: {seen}") from None

    async def ended(self) -> int:
        """Wait for the end; returns the exit status."""
        async with asyncio.timeout(30.0):
            while self.channel.status is None:
                self.channel.came.clear()
                await self.channel.came.wait()
        return self.channel.status

    def commands(self) -> list[str]:
        """What was audited under this operator's key, in order."""
        found = self.audit.recent(10_000)
        return [one.command for one in found if one.fingerprint == self.fingerprint]

    async def close(self) -> None:
        """The connection is lost."""
        task = self.session._task
        self.session.connection_lost(None)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
