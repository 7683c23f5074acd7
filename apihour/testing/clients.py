"""The clients of a load: one request at a time over a raw socket, nothing hidden."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import ClassVar

from apihour.testing.raw import Closed, Fate, RawClient

__all__ = ["CLIENTS"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_PING = 0x9
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class _KeepAlive(RawClient):
    """HTTP/1.1 on one connection for as long as the server keeps it."""

    header: ClassVar[str] = ""

    async def ask(self) -> Fate:
        await self.connect()
        await self._before()
        await self.send(
            f"GET {self.path} HTTP/1.1\r\nHost: apihour.test\r\n{self.header}\r\n".encode())
        head = await self._head()
        body_ended = await self._body(head)
        self.data.clear()
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
        while (end := self.data.find(b"\r\n\r\n")) < 0:
            if not await self.receive():
                raise self.ended()
        head = bytes(self.data[: end + 4])
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise Closed(Fate.UNEXPECTED, f"no HTTP answer: {head[:60]!r}")
        del self.data[: end + 2]  # the empty line stays, as the line before a first chunk
        return head

    async def _body(self, head: bytes) -> bool:
        """Read the body; False when its end was the connection's."""
        found = _LENGTH.search(head)
        if found:
            while len(self.data) < int(found[1]) + 2:
                if not await self.receive():
                    raise self.ended()
        elif _CHUNKED.search(head):
            while not self.data.endswith(_LAST_CHUNK):
                if not await self.receive():
                    raise self.ended()
        elif head[9:12] not in (b"101", b"204", b"304"):
            while await self.receive():
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
        if self._told or self.sock is None:
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
        await self.connect()
        await self.send(
            f"GET {self.path} HTTP/1.1\r\nHost: apihour.test\r\n{self.header}\r\n".encode())
        head = await self._head()
        del self.data[:2]
        status = int(head[9:12])
        if status != 101:
            raise Closed(Fate.ERROR_5XX if status >= 500 else Fate.UNEXPECTED, f"status {status}")

    async def _unasked(self) -> bool:
        return (await self._frame())[0] == _PING

    async def leave(self) -> None:
        """Send a close frame (RFC 6455, section 7.1.2) and wait a moment for the answer."""
        if self.sock is not None:
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
        await self.send(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)

    async def _frame(self) -> tuple[int, bytes]:
        """The next frame; a ping and a close frame are answered."""
        while True:
            size = 2 + (self.data[1] & 0x7F) if len(self.data) >= 2 else 2
            if len(self.data) < size or len(self.data) < 2:
                if not await self.receive():
                    raise self.ended()
                continue
            if self.data[1] & 0x7F > 125:
                raise Closed(Fate.UNEXPECTED, "a frame longer than any message sent")
            opcode, payload = self.data[0] & 0x0F, bytes(self.data[2:size])
            del self.data[:size]
            self.is_partial = bool(self.data)
            if opcode == _PING:
                await self._send_frame(0xA, payload)
            if opcode == 0x8:
                self._told = payload[:2] in (b"\x03\xe9", b"\x03\xf4")  # 1001 or 1012
                if not self._told:
                    raise Closed(Fate.EOF, f"closed with {int.from_bytes(payload[:2], 'big')}")
                await self._send_frame(0x8, payload[:2])
            return opcode, payload


class _Tcp(RawClient):
    """Half a message, silence, the other half, its echo; a connection for each."""

    _message = b"one half, and the other half\n"

    async def ask(self) -> Fate:
        self.drop()
        await self.connect()
        half = len(self._message) // 2
        await self.send(self._message[:half])
        await asyncio.sleep(self.wait)
        await self.send(self._message[half:])
        await self.echo(self._message)
        self.drop()
        return Fate.OK

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _TcpSession(_Tcp):
    """Messages on one connection, each echoed; a connection that ends is a loss."""

    async def ask(self) -> Fate:
        if self.sock is not None and self.is_closed(self.sock):
            raise Closed(Fate.EOF, "the session was closed while it was idle")
        await self.connect()
        await self.send(self._message)
        await self.echo(self._message)
        return Fate.OK

    async def idle(self, seconds: float) -> None:
        # Not noticed but found out: a session that ends while it is idle was lost.
        await asyncio.sleep(seconds)


CLIENTS: dict[str, type[RawClient]] = {
    "keep-alive": _KeepAlive,
    "connection": _PerRequest,
    "connect-wait": _ConnectWait,
    "websocket": _WebSocket,
    "tcp": _Tcp,
    "tcp-session": _TcpSession,
}
