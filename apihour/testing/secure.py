"""TLS for the clients of a load, between a raw socket and them, so that nothing is hidden."""

from __future__ import annotations

import asyncio
import socket
import ssl

__all__ = ["Secure"]

_CHUNK = 65536


class Secure:
    """The client's side of one TLS connection; its socket stays the caller's."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self, sock: socket.socket) -> bool:
        """Do it; False when the server closes within it. Raises ssl.SSLError."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self._outgoing.read())
                data = await loop.sock_recv(sock, _CHUNK)
                if not data:
                    return False
                self._incoming.write(data)
            else:
                await loop.sock_sendall(sock, self._outgoing.read())
                return True

    def encrypt(self, data: bytes) -> bytes:
        """What goes to the socket for `data`."""
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """What came with `data` from the socket, and whether the server goes on."""
        self._incoming.write(data)
        plain = b""
        try:
            while piece := self._object.read(_CHUNK):
                plain += piece
        except ssl.SSLWantReadError:
            return plain, True
        except ssl.SSLZeroReturnError:
            pass  # close_notify, as is an empty piece
        return plain, False
