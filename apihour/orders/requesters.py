"""Requests of who has connected to the arbiter's control socket.

Rules:

- One slow reader costs itself only: nothing waits, and what it leaves unread is bounded.
- An answer may come much later than its request: a reload answers when it is through.
- What was cancelled before it was read, as of an arbiter that was stopped, is not begun.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from apihour.excerpt import DETAIL, LINE, excerpt
from apihour.ipc.peer_socket import PeerConnection
from apihour.ipc.wire import FrameError

__all__ = ["ControlRequest", "Requesters"]

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


class Requesters:
    """The clients; `on_request` is called with each request."""

    def __init__(self, on_request: Callable[[ControlRequest], None]) -> None:
        self._on_request = on_request
        self._clients: list[_Asking] = []

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, sock: socket.socket) -> None:
        """Hear one more."""
        self._clients.append(_Asking(sock))

    def watched(self) -> dict[int, Callable[[], None]]:
        """Try again to write what is left; then what a poll must watch, and who reads it."""
        for client in self._clients:
            if client.out and not client.closed:
                client.flush()
        self._clients = [client for client in self._clients if not client.closed]
        return {client.sock.fileno(): partial(self._read, client) for client in self._clients}

    def _read(self, client: _Asking) -> None:
        if client.closed:  # in this very turn
            return
        try:
            messages = client.receive()
        except (OSError, EOFError, FrameError):
            client.close()
            return
        cancelled = [message.get("id") for message in messages if "cancel" in message]
        for message in messages:
            if message.get("id") in cancelled:
                continue
            arguments = message.get("arguments")
            self._on_request(ControlRequest(
                client, message.get("id"), str(message.get("command")),
                arguments if isinstance(arguments, dict) else {}, str(message.get("role")),
            ))

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            client.sock.close()
