"""The clients of ``chaos.py``: every request's fate, and whose death explains it.

Rules:

- Closed loops: a client has one request under way, so what a death cost is countable.
- A failure is excused only on a connection that a killed process held, by the kernel's own
  books at the moment of the kill; a datagram only when it was under way at that moment.
- A client that finds its idle connection closed opens another, as good clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Clients", "Killed", "peers_of"]

PATIENCE = 20.0  # seconds an answer may take on a loaded machine
THINK = (0.0, 0.03)  # seconds between two requests of one client
_PAUSE = 0.02  # seconds before a client goes on after a failure


@dataclass(frozen=True)
class Killed:
    """One death: when (``time.monotonic()``), which process, the client ports it held."""

    at: float
    pid: int
    ports: frozenset[int]


@dataclass
class Fates:
    """What the requests of one kind met."""

    ok: int = 0
    killed: int = 0
    lost: list[str] = field(default_factory=list)


class Closed(Exception):
    """The server closed a connection before the whole answer."""


class Clients:
    """All clients of one daemon; `addresses` are (host, port) by server name."""

    def __init__(self, addresses: dict[str, tuple[str, int]], seed: int) -> None:
        self.addresses = addresses
        self.killed: list[Killed] = []
        self.fates: dict[str, Fates] = {}
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Start every client on the running loop."""
        kinds: list[tuple[str, int, Callable[[str], Coroutine[Any, Any, None]]]] = [
            ("keep-alive", 3, self._keep_alive), ("connection", 2, self._connection),
            ("connect-wait", 1, self._connect_wait), ("tcp", 2, self._tcp), ("udp", 2, self._udp),
        ]
        for kind, count, client in kinds:
            self.fates[kind] = Fates()
            self._tasks += [asyncio.ensure_future(self._repeat(kind, client))
                            for _ in range(count)]

    async def stop(self) -> None:
        """Let every request under way end."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def counts(self) -> Counter[str]:
        """Answered requests by kind."""
        return Counter({kind: fates.ok for kind, fates in self.fates.items()})

    async def _repeat(self, kind: str, client: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        while not self._stopping:
            await client(kind)

    async def _think(self) -> None:
        await asyncio.sleep(self._random.uniform(*THINK))

    def _fail(self, kind: str, port: int, sent: float, error: BaseException) -> None:
        """Book a failure on the connection of the client's `port`."""
        if any(port in killed.ports and killed.at >= sent - PATIENCE for killed in self.killed):
            self.fates[kind].killed += 1
        else:
            self.fates[kind].lost.append(
                f"{kind} from port {port} at {time.monotonic():.3f}, sent at {sent:.3f}: "
                f"{error or type(error).__name__!r}")

    # -- streams -----------------------------------------------------------------------------

    async def _exchange(self, kind: str, stream: _Stream, work: Coroutine[Any, Any, bool]) -> bool:
        """Await one exchange; returns whether the connection may be used again."""
        sent = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                again = await work
        except (OSError, Closed, TimeoutError) as error:
            self._fail(kind, stream.port, sent, error)
            await asyncio.sleep(_PAUSE)
            return False
        self.fates[kind].ok += 1
        return again

    async def _open(self, kind: str, name: str) -> _Stream | None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                return await _Stream.open(self.addresses[name])
        except (OSError, TimeoutError) as error:
            self._fail(kind, 0, began, error)
            await asyncio.sleep(_PAUSE)
            return None

    async def _keep_alive(self, kind: str) -> None:
        if (stream := await self._open(kind, "http")) is None:
            return
        with stream:
            while not self._stopping and not stream.was_closed():
                path = self._random.choice(["/", "/", "/slow"])
                if not await self._exchange(kind, stream, stream.get(path)):
                    return
                await self._think()

    async def _connection(self, kind: str) -> None:
        if (stream := await self._open(kind, "http")) is not None:
            with stream:
                await self._exchange(kind, stream, stream.get("/", close=True))
        await self._think()

    async def _connect_wait(self, kind: str) -> None:
        if (stream := await self._open(kind, "http")) is not None:
            with stream:
                await asyncio.sleep(0.02)
                await self._exchange(kind, stream, stream.get("/", close=True))
        await self._think()

    async def _tcp(self, kind: str) -> None:
        if (stream := await self._open(kind, "echo")) is not None:
            with stream:
                await self._exchange(kind, stream, stream.echo())
        await self._think()

    # -- datagrams ---------------------------------------------------------------------------

    async def _udp(self, kind: str) -> None:
        """One datagram on a socket of its own, so that ``?reuse_port`` spreads them."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self.addresses["udp"])
            sent = time.monotonic()
            try:
                await loop.sock_sendall(sock, b"datagram")
                async with asyncio.timeout(PATIENCE / 2):
                    await loop.sock_recv(sock, 100)
                self.fates[kind].ok += 1
            except (OSError, TimeoutError) as error:
                if any(sent <= killed.at <= sent + PATIENCE for killed in self.killed):
                    self.fates[kind].killed += 1
                else:
                    self._fail(kind, sock.getsockname()[1], sent, error)
        await self._think()


class _Stream:
    """One blocking-free connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    @classmethod
    async def open(cls, address: tuple[str, int]) -> _Stream:
        return cls(*await asyncio.open_connection(*address))

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    def was_closed(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None

    async def get(self, path: str, close: bool = False) -> bool:
        """One request; returns whether the connection stays. Raises Closed."""
        end = "Connection: close\r\n" if close else ""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: chaos\r\n{end}\r\n".encode())
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise Closed(f"closed after {len(error.partial)} bytes of an answer") from error
        if " 200 " not in head.partition("\r\n")[0]:
            raise Closed(f"answered {head.partition(chr(13))[0]!r}")
        return "connection: close" not in head

    async def echo(self) -> bool:
        """Half a message, a moment, the rest, its echo. Raises Closed."""
        self.writer.write(b"half ")
        await asyncio.sleep(0.01)
        self.writer.write(b"rest\n")
        try:
            await self.reader.readexactly(10)
        except asyncio.IncompleteReadError as error:
            raise Closed(f"closed after {len(error.partial)} bytes of an echo") from error
        return False


def peers_of(pid: int) -> frozenset[int]:
    """The client ports of the TCP connections that a process holds, from proc(5).

    For a process that is stopped: one that runs accepts meanwhile.
    """
    held = set()
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                if target.startswith("socket:["):
                    held.add(target[8:-1])
    ports = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[9] in held:
            ports.add(int(fields[2].rpartition(":")[2], 16))
    return frozenset(ports - {0})
