"""A client's one connection, over a raw socket, and what becomes of what it asks."""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
import time

from apihour.testing.secure import Secure

__all__ = ["Closed", "Fate", "RawClient", "Refused"]

_CHUNK = 65536


class Fate(enum.Enum):
    """What became of one request; `eof`: closed before the answer, `partial`: within it."""

    OK = "ok"
    REFUSED = "refused"
    RESET = "reset"
    EOF = "eof"
    PARTIAL = "partial"
    TIMEOUT = "timeout"
    ERROR_5XX = "error_5xx"
    UNEXPECTED = "unexpected"
    TOLD = "told"


class Refused(Exception):
    """Nobody took the connection."""


class Closed(Exception):
    """The server closed the connection, or answered what was not asked."""

    def __init__(self, fate: Fate, message: str) -> None:
        super().__init__(message)
        self.fate = fate


class RawClient:
    """One client, which opens a connection when it has none."""

    def __init__(
        self, address: str, path: str, wait: float, context: ssl.SSLContext | None = None
    ) -> None:
        self.address = address
        self.path = path
        self.wait = wait
        self._context = context
        self._secure: Secure | None = None
        self.local = ""
        self.connected = 0.0
        self.answered = 0
        self.is_partial = False
        self._opened = 0
        self.sock: socket.socket | None = None
        self.data = bytearray()
        # A read under way: cancelled instead, it could take with it what it had just read.
        self._pending: asyncio.Future[bytes] | None = None

    async def ask(self) -> Fate:
        """One request; returns OK, TOLD or ERROR_5XX, and raises what else it meets."""
        raise NotImplementedError

    async def idle(self, seconds: float) -> None:
        """Think, and notice when the connection is closed meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.sock is not None and (left := until - loop.time()) > 0:
            if self._pending is None:
                self._pending = asyncio.ensure_future(loop.sock_recv(self.sock, _CHUNK))
            if not (await asyncio.wait({self._pending}, timeout=left))[0]:
                return
            try:
                is_open = await self._unasked()
            except (Closed, ConnectionError):
                is_open = False  # closed by a reset while idle: as good as an end of file
            if not is_open:
                self.drop()
        await asyncio.sleep(max(0.0, until - loop.time()))

    async def _unasked(self) -> bool:
        """Take what came while nothing was asked; False when the connection is to be closed."""
        return await self._receive_some()

    async def leave(self) -> None:
        """Say goodbye, if the protocol has a word for it, and close."""
        self.drop()

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self.sock is not None:
            if self._pending is not None:
                # Before the descriptor's number is somebody else's.
                self._pending.get_loop().remove_reader(self.sock.fileno())
                self._pending.cancel()
                self._pending = None
            self.sock.close()
            self.sock = None

    def take_opened(self) -> int:
        """Connections opened since the last time this was asked."""
        opened, self._opened = self._opened, 0
        return opened

    async def connect(self) -> None:
        """Have an open connection: the present one, or a new one."""
        self.is_partial = False
        if self.sock is not None and not self.is_closed(self.sock):
            return
        self.drop()
        self.data.clear()
        self.answered = 0
        loop = asyncio.get_running_loop()
        family, place = _place(self.address)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(sock, place)
        except OSError as error:
            sock.close()
            raise Refused(os.strerror(error.errno or 0)) from error
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._opened += 1
        self.connected = time.monotonic()
        name = sock.getsockname()
        self.local = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        if self._context is not None:
            self._secure = Secure(self._context, str(place[0]))
            try:
                if not await self._secure.handshake(sock):
                    raise Closed(Fate.EOF, "closed within the TLS handshake")
            except ssl.SSLError as error:
                raise Closed(Fate.UNEXPECTED, f"TLS handshake: {error}") from error

    def is_closed(self, sock: socket.socket) -> bool:
        try:
            if self._secure is None:
                return not sock.recv(1, socket.MSG_PEEK)
            data = sock.recv(_CHUNK)
            return not (data and self._secure.decrypt(data)[1])
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    async def send(self, data: bytes) -> None:
        assert self.sock is not None
        if self._secure is not None:
            data = self._secure.encrypt(data)
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> bool:
        """Append what comes to the data; False at the end of file."""
        before = len(self.data)
        while await self._receive_some():
            if len(self.data) > before:
                return True
        return len(self.data) > before

    async def _receive_some(self) -> bool:
        """One read of the socket, which with TLS may hold no data; False at the end of file."""
        assert self.sock is not None
        pending, self._pending = self._pending, None
        data = await (pending or asyncio.get_running_loop().sock_recv(self.sock, _CHUNK))
        goes_on = bool(data)
        if self._secure is not None and data:
            data, goes_on = self._secure.decrypt(data)
        self.data += data
        self.is_partial = bool(self.data)
        return goes_on

    def ended(self) -> Closed:
        if self.data:
            return Closed(Fate.PARTIAL, f"closed within the answer: {bytes(self.data[:60])!r}")
        return Closed(Fate.EOF, "closed before the answer")

    async def echo(self, message: bytes) -> None:
        """Read until the message has come back."""
        while len(self.data) < len(message):
            if not await self.receive():
                raise self.ended()
        if self.data != message:
            raise Closed(Fate.UNEXPECTED, f"not its echo: {bytes(self.data[:60])!r}")
        self.data.clear()
        self.answered += 1


def _place(address: str) -> tuple[int, str | tuple[str, int]]:
    """Socket family and address of ``127.0.0.1:80``, ``[::1]:80``, ``unix:/x`` or ``unix:@x``."""
    if address.startswith("unix:"):
        return socket.AF_UNIX, address.removeprefix("unix:").replace("@", "\0", 1)
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return family, (host.strip("[]"), int(port))
