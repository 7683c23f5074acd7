"""The arbiter's control socket: requests of the console and of ``apihour ctl``.

Rules:

- Served from the arbiter's own poll loop, never blocking.
- Only the daemon's user and root are heard (:mod:`apihour.ipc.peer_socket`).
- Who connects is heard by apihour.orders.requesters.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from apihour.ipc.peer_socket import PeerListener

if TYPE_CHECKING:
    from apihour.orders.requesters import ControlRequest, Requesters

__all__ = ["Control"]

_CLIENTS = 32  # connections at a time; operators are few


class Control:
    """The listening socket and its clients."""

    def __init__(
        self, path: str, owner: tuple[int, int], on_request: Callable[[ControlRequest], None]
    ) -> None:
        self.path = path
        self._owner = owner
        self._on_request = on_request
        self._clients: Requesters | None = None
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
        """What a poll must watch, and who reads it."""
        clients = self._clients.watched() if self._clients is not None else {}
        return {self._listener.sock.fileno(): self._accept, **clients}

    def _accept(self) -> None:
        sock = self._listener.accept(len(self._clients or ()))
        if sock is None:
            return
        if self._clients is None:
            from apihour.orders.requesters import Requesters  # read where somebody asks

            self._clients = Requesters(self._on_request)
        self._clients.add(sock)

    def close_inherited(self) -> None:
        """In a child: close the descriptors, leave the path alone."""
        self._listener.close()
        if self._clients is not None:
            self._clients.close()

    def close(self) -> None:
        """Close everything, and remove the path if it is still ours."""
        self.close_inherited()
        self._listener.unlink()
