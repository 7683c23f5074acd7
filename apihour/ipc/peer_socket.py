"""Unix sockets between the processes of a daemon: who may connect, and frames over them.

Rules:

- The file is the daemon's user's alone (0600) from its first moment, and gets its name in one
  step: the path leads to a socket that listens, ours or our predecessor's.
- Only the daemon's user and root are heard (SO_PEERCRED, unix(7)). Where the system does not
  say who it is, the 0700 directory alone is the boundary.
- No loop here, and no call waits: the arbiter's poll, the agent's selector and the console's
  asyncio each turn in their own way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apihour.ipc.giving import give
from apihour.ipc.wire import Framer, encode

__all__ = ["PeerConnection", "PeerListener", "peer_uid"]

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_RECEIVE = 65536  # bytes taken at a time
_PRIVATE = 0o600


class PeerListener:
    """A listening socket at `path`, in place of whatever is there; it never blocks.

    `clients`: connections at a time. `owner` (uid, gid): who gets the file, for a root that
    serves another user's processes. `refused` is called with the uid of who was not welcome.
    Raises OSError when it cannot be made; nothing is left then.
    """

    def __init__(
        self, path: str | os.PathLike[str], clients: int, owner: tuple[int, int] | None = None,
        refused: Callable[[int], None] = lambda uid: None,
    ) -> None:
        self.path = Path(path)
        self.clients = clients
        self.uids = frozenset({0, os.geteuid(), *(owner or ())[:1]})
        self._refused = refused
        self.sock, self._inode = _listen(self.path, clients, owner)

    def accept(self, others: int) -> socket.socket | None:
        """The next connection, beside that many others; None when it left or is not welcome."""
        try:
            sock, _ = self.sock.accept()
        except OSError:  # it is gone, or descriptors are exhausted: the next one may do
            return None
        sock.setblocking(False)
        uid = peer_uid(sock)
        if uid in self.uids and others < self.clients:
            return sock
        sock.close()
        self._refused(uid)
        return None

    def is_ours(self) -> bool:
        """Whether the path leads here, and not to who took over or to nothing."""
        with contextlib.suppress(OSError):
            return os.lstat(self.path).st_ino == self._inode
        return False

    def unlink(self) -> None:
        """Remove the path if it is still ours."""
        if self.is_ours():
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the descriptor; the path stays."""
        self.sock.close()


def _listen(
    path: Path, backlog: int, owner: tuple[int, int] | None
) -> tuple[socket.socket, int]:
    # Under another name first: who comes after replaces its predecessor's socket in one step.
    # One that is no longer than any other, for a path may have a hundred bytes or so.
    temporary = path.with_name(f".{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(OSError):  # Linux gives the file that mode; others below
            os.fchmod(sock.fileno(), _PRIVATE)
        temporary.unlink(missing_ok=True)  # of a process of that pid that was killed here
        sock.bind(str(temporary))
        if stat.S_IMODE(os.lstat(temporary).st_mode) & ~_PRIVATE:
            os.chmod(temporary, _PRIVATE, follow_symlinks=False)
        if owner is not None:
            give(temporary, owner)
        sock.listen(backlog)
        sock.setblocking(False)
        inode = os.lstat(temporary).st_ino
        os.rename(temporary, path)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return sock, inode


def peer_uid(sock: socket.socket) -> int:
    """Who is at the other end; this process' own user where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(packed)[1]
    return uid


class PeerConnection:
    """Frames of one connection; `maximum` bytes in one that is received."""

    def __init__(self, sock: socket.socket, maximum: int) -> None:
        self.sock = sock
        self.out = bytearray()
        self._framer = Framer(maximum)

    def receive(self) -> list[dict[str, Any]]:
        """The messages that are there. Raises EOFError at the end, FrameError, OSError."""
        try:
            data = self.sock.recv(_RECEIVE)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        return self._framer.feed(data)

    def put(self, message: dict[str, Any]) -> None:
        """Add one message to what is to be sent."""
        self.out += encode(message)

    def flush(self) -> None:
        """Send what can be sent now. Raises OSError when the other end is gone."""
        with contextlib.suppress(BlockingIOError):
            while self.out:
                del self.out[: self.sock.send(self.out)]
