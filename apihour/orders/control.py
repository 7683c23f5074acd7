"""The arbiter's control socket: requests of the console and of ``apihour ctl``.

Rules:

- Served from the arbiter's own poll loop, never blocking; one slow reader costs itself only.
- Only the daemon's user and root are heard (:mod:`apihour.ipc.peer_socket`).
- An answer may come much later than its request: a reload answers when it is through.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ipc.peer_socket import PeerConnection, PeerListener
from apihour.ipc.wire import FrameError

__all__ = ["Control", "ControlRequest"]

_CLIENTS = 32  # connections at a time; operators are few
_UNSENT = 4 * 1024 * 1024  # bytes a client may leave unread before it is dropped
_REQUEST = 65536  # bytes of the largest request


@dataclass
class ControlRequest:
    """One request; answer it once, now or later."""

    client: _Asking
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


class _Asking(PeerConnection):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, _REQUEST)
        self.closed = False

    def send(self, message: dict[str, Any]) -> None:
        if self.closed:
            return
        self.put(message)
        self.flush()
        if len(self.out) > _UNSENT:
            self.close()

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self.close()

    def close(self) -> None:
        self.closed = True
        self.sock.close()


class Control:
    """The listening socket and its clients."""

    def __init__(
        self, path: str, owner: tuple[int, int], on_request: Callable[[ControlRequest], None]
    ) -> None:
        self.path = path
        self._owner = owner
        self._on_request = on_request
        self._clients: list[_Asking] = []
        self._listener = PeerListener(path, _CLIENTS, owner)

    def listen_again(self) -> None:
        """Listen at the path anew, after that has vanished. Raises OSError."""
        fresh = PeerListener(self.path, _CLIENTS, self._owner)
        self._listener.close()
        self._listener = fresh

    def is_there(self) -> bool:
        """Whether the path leads to a socket, ours or that of who took over."""
        return os.path.exists(self.path)

    def watched(self) -> dict[int, Callable[[], None]]:
        """Try again to write what is left; then what a poll must watch, and who reads it."""
        for client in self._clients:
            if client.out and not client.closed:
                client.flush()
        self._clients = [client for client in self._clients if not client.closed]
        return {self._listener.sock.fileno(): self._accept,
                **{client.sock.fileno(): partial(self._read, client) for client in self._clients}}

    def _accept(self) -> None:
        sock = self._listener.accept(len(self._clients))
        if sock is not None:
            self._clients.append(_Asking(sock))

    def _read(self, client: _Asking) -> None:
        if client.closed:  # in this very turn
            return
        try:
            messages = client.receive()
        except (OSError, EOFError, FrameError):
            client.close()
            return
        for message in messages:
            arguments = message.get("arguments")
            self._on_request(ControlRequest(
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
        self._listener.unlink()
