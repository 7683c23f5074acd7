"""The clients of a load: one request at a time over a raw socket, nothing hidden."""

from __future__ import annotations

import asyncio
import enum
import os
import re
import socket
import ssl
import time
from typing import ClassVar

from apihour.testing.secure import Secure

__all__ = ["CLIENTS", "Client", "Closed", "Fate", "Refused"]

_CHUNK = 65536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_PING = 0x9
_LAST_CHUNK = b"\r\n0\r\n\r\n"


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


class Client:
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
        self._sock: socket.socket | None = None
        self._data = bytearray()
        # A read under way: cancelled instead, it could take with it what it had just read.
        self._pending: asyncio.Future[bytes] | None = None

    async def ask(self) -> Fate:
        """One request; returns OK, TOLD or ERROR_5XX, and raises what else it meets."""
        raise NotImplementedError

    async def idle(self, seconds: float) -> None:
        """Think, and notice when the connection is closed meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._sock is not None and (left := until - loop.time()) > 0:
            if self._pending is None:
                self._pending = asyncio.ensure_future(loop.sock_recv(self._sock, _CHUNK))
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
        if self._sock is not None:
            if self._pending is not None:
                # Before the descriptor's number is somebody else's.
                self._pending.get_loop().remove_reader(self._sock.fileno())
                self._pending.cancel()
                self._pending = None
            self._sock.close()
            self._sock = None

    def take_opened(self) -> int:
        """Connections opened since the last time this was asked."""
        opened, self._opened = self._opened, 0
        return opened

    async def _connect(self) -> None:
        """Have an open connection: the present one, or a new one."""
        self.is_partial = False
        if self._sock is not None and not self._is_closed(self._sock):
            return
        self.drop()
        self._data.clear()
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
        self._sock = sock
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

    def _is_closed(self, sock: socket.socket) -> bool:
        try:
            if self._secure is None:
                return not sock.recv(1, socket.MSG_PEEK)
            data = sock.recv(_CHUNK)
            return not (data and self._secure.decrypt(data)[1])
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    async def _send(self, data: bytes) -> None:
        assert self._sock is not None
        if self._secure is not None:
            data = self._secure.encrypt(data)
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _receive(self) -> bool:
        """Append what comes to the data; False at the end of file."""
        before = len(self._data)
        while await self._receive_some():
            if len(self._data) > before:
                return True
        return len(self._data) > before

    async def _receive_some(self) -> bool:
        """One read of the socket, which with TLS may hold no data; False at the end of file."""
        assert self._sock is not None
        pending, self._pending = self._pending, None
        data = await (pending or asyncio.get_running_loop().sock_recv(self._sock, _CHUNK))
        goes_on = bool(data)
        if self._secure is not None and data:
            data, goes_on = self._secure.decrypt(data)
        self._data += data
        self.is_partial = bool(self._data)
        return goes_on

    def _ended(self) -> Closed:
        if self._data:
            return Closed(Fate.PARTIAL, f"closed within the answer: {bytes(self._data[:60])!r}")
        return Closed(Fate.EOF, "closed before the answer")

    async def _echo(self, message: bytes) -> None:
        """Read until the message has come back."""
        while len(self._data) < len(message):
            if not await self._receive():
                raise self._ended()
        if self._data != message:
            raise Closed(Fate.UNEXPECTED, f"not its echo: {bytes(self._data[:60])!r}")
        self._data.clear()
        self.answered += 1


class _KeepAlive(Client):
    """HTTP/1.1 on one connection for as long as the server keeps it."""

    header: ClassVar[str] = ""

    async def ask(self) -> Fate:
        await self._connect()
        await self._before()
        await self._send(
            f"GET {self.path} HTTP/1.1\r\nHost: apihour.test\r\n{self.header}\r\n".encode())
        head = await self._head()
        body_ended = await self._body(head)
        self._data.clear()
        self.answered += 1
        if _CLOSE.search(head) or not body_ended:
            self.drop()
        status = int(head[9:12])
        if status >= 500:
            raise Closed(Fate.ERROR_5XX, f"status {status}")
        if status >= 400:
            raise Closed(Fate.UNEXPECTED, f"status {status}")
        return Fate.OK

    async def _before(self) -> None:
        """What happens between the connection and the request."""

    async def _head(self) -> bytes:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if not await self._receive():
                raise self._ended()
        head = bytes(self._data[: end + 4])
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise Closed(Fate.UNEXPECTED, f"no HTTP answer: {head[:60]!r}")
        del self._data[: end + 2]  # the empty line stays, as the line before a first chunk
        return head

    async def _body(self, head: bytes) -> bool:
        """Read the body; False when its end was the connection's."""
        found = _LENGTH.search(head)
        if found:
            while len(self._data) < int(found[1]) + 2:
                if not await self._receive():
                    raise self._ended()
        elif _CHUNKED.search(head):
            while not self._data.endswith(_LAST_CHUNK):
                if not await self._receive():
                    raise self._ended()
        elif head[9:12] not in (b"101", b"204", b"304"):
            while await self._receive():
                pass
            return False
        return True


class _PerRequest(_KeepAlive):
    header = "Connection: close\r\n"

    async def ask(self) -> Fate:
        self.drop()
        try:
            return await super().ask()
        finally:
            self.drop()

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _ConnectWait(_PerRequest):
    async def _before(self) -> None:
        await asyncio.sleep(self.wait)


class _WebSocket(_KeepAlive):
    """A WebSocket (RFC 6455), one text message at a time, each echoed."""

    header = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
    _message = b"not one lost"

    def __init__(
        self, address: str, path: str, wait: float, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(address, path, wait, context)
        self._told = False

    async def ask(self) -> Fate:
        if self._told or self._sock is None:
            await self._open()
        try:
            await self._send_frame(0x1, self._message)
            while (frame := await self._frame())[0] == _PING:
                pass
            opcode, payload = frame
        except (Closed, ConnectionError):
            # The close frame may have come while the message went out.
            if self._told:
                return Fate.TOLD
            raise
        if opcode == 0x8:
            return Fate.TOLD
        if payload != self._message:
            raise Closed(Fate.UNEXPECTED, f"opcode {opcode}, not its echo: {payload[:60]!r}")
        self.answered += 1
        return Fate.OK

    async def _open(self) -> None:
        self.drop()
        self._told = False
        await self._connect()
        await self._send(
            f"GET {self.path} HTTP/1.1\r\nHost: apihour.test\r\n{self.header}\r\n".encode())
        head = await self._head()
        del self._data[:2]
        status = int(head[9:12])
        if status != 101:
            raise Closed(Fate.ERROR_5XX if status >= 500 else Fate.UNEXPECTED, f"status {status}")

    async def _unasked(self) -> bool:
        return (await self._frame())[0] == _PING

    async def leave(self) -> None:
        """Send a close frame (RFC 6455, section 7.1.2) and wait a moment for the answer."""
        if self._sock is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._send_frame(0x8, b"\x03\xe8")
                    while (await self._frame())[0] != 0x8:
                        pass
            except (TimeoutError, Closed, ConnectionError):
                pass  # it was leaving anyway
        self.drop()

    async def _send_frame(self, opcode: int, payload: bytes) -> None:
        # Masked with zeros, which is a mask all the same (RFC 6455, section 5.3).
        await self._send(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)

    async def _frame(self) -> tuple[int, bytes]:
        """The next frame; a ping and a close frame are answered."""
        while True:
            size = 2 + (self._data[1] & 0x7F) if len(self._data) >= 2 else 2
            if len(self._data) < size or len(self._data) < 2:
                if not await self._receive():
                    raise self._ended()
                continue
            if self._data[1] & 0x7F > 125:
                raise Closed(Fate.UNEXPECTED, "a frame longer than any message sent")
            opcode, payload = self._data[0] & 0x0F, bytes(self._data[2:size])
            del self._data[:size]
            self.is_partial = bool(self._data)
            if opcode == _PING:
                await self._send_frame(0xA, payload)
            if opcode == 0x8:
                self._told = payload[:2] in (b"\x03\xe9", b"\x03\xf4")  # 1001 or 1012
                if not self._told:
                    raise Closed(Fate.EOF, f"closed with {int.from_bytes(payload[:2], 'big')}")
                await self._send_frame(0x8, payload[:2])
            return opcode, payload


class _Tcp(Client):
    """Half a message, silence, the other half, its echo; a connection for each."""

    _message = b"one half, and the other half\n"

    async def ask(self) -> Fate:
        self.drop()
        await self._connect()
        half = len(self._message) // 2
        await self._send(self._message[:half])
        await asyncio.sleep(self.wait)
        await self._send(self._message[half:])
        await self._echo(self._message)
        self.drop()
        return Fate.OK

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _TcpSession(_Tcp):
    """Messages on one connection, each echoed; a connection that ends is a loss."""

    async def ask(self) -> Fate:
        if self._sock is not None and self._is_closed(self._sock):
            raise Closed(Fate.EOF, "the session was closed while it was idle")
        await self._connect()
        await self._send(self._message)
        await self._echo(self._message)
        return Fate.OK

    async def idle(self, seconds: float) -> None:
        # Not noticed but found out: a session that ends while it is idle was lost.
        await asyncio.sleep(seconds)


CLIENTS: dict[str, type[Client]] = {
    "keep-alive": _KeepAlive,
    "connection": _PerRequest,
    "connect-wait": _ConnectWait,
    "websocket": _WebSocket,
    "tcp": _Tcp,
    "tcp-session": _TcpSession,
}


def _place(address: str) -> tuple[int, str | tuple[str, int]]:
    """Socket family and address of ``127.0.0.1:80``, ``[::1]:80``, ``unix:/x`` or ``unix:@x``."""
    if address.startswith("unix:"):
        return socket.AF_UNIX, address.removeprefix("unix:").replace("@", "\0", 1)
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return family, (host.strip("[]"), int(port))
