"""The arbiter's control socket: requests of the console and of ``apihour ctl``.

Rules:

- Served from the arbiter's own poll loop, never blocking; one slow reader costs itself only.
- Only the daemon's user and root are heard (SO_PEERCRED, unix(7)).
- An answer may come much later than its request: a reload answers when it is through.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ipc.wire import FrameError, Framer, encode

__all__ = ["Control", "Request"]

_CLIENTS = 32  # connections at a time; operators are few
_UNSENT = 4 * 1024 * 1024  # bytes a client may leave unread before it is dropped
_REQUEST = 65536  # bytes of the largest request


@dataclass
class Request:
    """One request; answer it once, now or later."""

    client: _Client
    id: Any
    command: str
    arguments: dict[str, Any]
    role: str

    def answer(self, rows: Any) -> None:
        """Send the result."""
        self.client.send({"id": self.id, "result": rows})

    def fail(self, error: str, kind: str = "failed", detail: str = "") -> None:
        """Send one line saying why not."""
        self.client.send({"id": self.id, "error": excerpt(error, LINE), "kind": kind,
                          "detail": excerpt(detail, DETAIL)})


class _Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.framer = Framer(_REQUEST)
        self.pending = bytearray()
        self.closed = False

    def send(self, message: dict[str, Any]) -> None:
        if self.closed:
            return
        self.pending += encode(message)
        self.flush()
        if len(self.pending) > _UNSENT:
            self.close()

    def flush(self) -> None:
        try:
            while self.pending:
                del self.pending[: self.sock.send(self.pending)]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        self.closed = True
        self.sock.close()


class Control:
    """The listening socket and its clients."""

    def __init__(self, path: str, owner: tuple[int, int], on_request: Callable[[Request], None],
                 ) -> None:
        self.path = path
        self._owner = owner
        self._uids = {0, os.geteuid(), owner[0]}
        self._on_request = on_request
        self._clients: list[_Client] = []
        self._listener = self._listen()

    def listen_again(self) -> None:
        """Listen at the path anew, after that has vanished. Raises OSError."""
        fresh = self._listen()
        self._listener.close()
        self._listener = fresh

    def _listen(self) -> socket.socket:
        # Under another name first: an upgrade replaces its parent's socket in one step.
        temporary = f"{self.path}.{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(temporary)
            os.chown(temporary, *self._owner, follow_symlinks=False)
            listener.listen(_CLIENTS)
            listener.setblocking(False)
            os.rename(temporary, self.path)
            self._inode = os.stat(self.path).st_ino
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
        return listener

    def is_there(self) -> bool:
        """Whether the path leads to a socket, ours or that of who took over."""
        return os.path.exists(self.path)

    def descriptors(self) -> list[int]:
        """What the arbiter's poll must watch for reading."""
        return [self._listener.fileno(), *(c.sock.fileno() for c in self._clients if not c.closed)]

    def on_readable(self, fd: int) -> None:
        """Serve one readable descriptor."""
        if fd == self._listener.fileno():
            self._accept()
            return
        for client in self._clients:
            if not client.closed and client.sock.fileno() == fd:
                self._read(client)
        self._clients = [client for client in self._clients if not client.closed]

    def flush(self) -> None:
        """Try again to write what is left; called in every turn of the arbiter."""
        for client in self._clients:
            if client.pending and not client.closed:
                client.flush()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor left: the client sees its end
        sock.setblocking(False)
        if len(self._clients) >= _CLIENTS or self._peer_uid(sock) not in self._uids:
            sock.close()
            return
        self._clients.append(_Client(sock))

    @staticmethod
    def _peer_uid(sock: socket.socket) -> int:
        if not hasattr(socket, "SO_PEERCRED"):
            return os.geteuid()  # macOS: the 0700 directory alone is the boundary
        packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        uid: int = struct.unpack("iII", packed)[1]
        return uid

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(65536)
            messages = client.framer.feed(data) if data else []
        except BlockingIOError:
            return
        except (OSError, FrameError):
            client.close()
            return
        if not data:
            client.close()
            return
        for message in messages:
            arguments = message.get("arguments")
            self._on_request(Request(
                client, message.get("id"), str(message.get("command")),
                arguments if isinstance(arguments, dict) else {}, str(message.get("role")),
            ))

    def close_inherited(self) -> None:
        """In a child: close the descriptors, leave the path alone."""
        self._listener.close()
        for client in self._clients:
            client.sock.close()

    def close(self) -> None:
        """Close everything, and remove the path if it is still ours."""
        self.close_inherited()
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            return
