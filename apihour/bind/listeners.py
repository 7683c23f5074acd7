"""Listening sockets: opened once by the arbiter, kept while their bind stays the same.

Rules:

- All or nothing: when one bind of a set cannot be opened, those opened before it are closed.
- Every descriptor is close-on-exec; only an upgrade passes them on.
- A unix path that answers is in use; one that does not is replaced; anything else in its
  place is left alone. Only the process that made a path removes it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from apihour.bind.addresses import BindAddress
from apihour.errors import BindError
from apihour.plugins import SocketKind

__all__ = ["Listener", "open_listener", "open_listeners"]


class Listener:
    """One bound socket of one server, in the shape gunicorn expects of its listeners.

    ``slot`` is the worker slot a ``?reuse_port`` socket is meant for, 0 for a shared one.
    """

    def __init__(
        self, name: str, address: BindAddress, sock: socket.socket, owns_path: bool, slot: int = 0
    ) -> None:
        self.name = name
        self.address = address
        self.sock = sock
        self.owns_path = owns_path
        self.slot = slot
        self.inode = self._find_inode()

    def _find_inode(self) -> int | None:
        try:
            return os.stat(self.address.host).st_ino if self.address.is_path else None
        except FileNotFoundError:
            return None  # somebody removed the socket file of one that we inherited

    @property
    def kind(self) -> SocketKind:
        """Whether it takes connections or datagrams."""
        return "datagram" if self.sock.type == socket.SOCK_DGRAM else "stream"

    @property
    def url(self) -> str:
        """Where it really listens, a port 0 resolved: ``127.0.0.1:40123``, or with ``?tls``."""
        return self._place() + ("" if self.address.tls is None else "?tls")

    def _place(self) -> str:
        bound = self.sock.getsockname()
        prefix = "udp://" if self.kind == "datagram" else ""
        if self.sock.family == socket.AF_INET6:
            return f"{prefix}[{bound[0]}]:{bound[1]}"
        if self.sock.family == socket.AF_INET:
            return f"{prefix}{bound[0]}:{bound[1]}"
        if isinstance(bound, bytes):
            return "unix:@" + bound.lstrip(b"\0").decode(errors="replace")
        return f"unix:{bound}"

    def __str__(self) -> str:
        return f"{self.name}={self.url}"

    def fileno(self) -> int:
        return self.sock.fileno()

    def getsockname(self) -> Any:
        return self.sock.getsockname()

    def listen(self, backlog: int) -> None:
        """Begin to take connections; datagram sockets have nothing to begin."""
        if self.kind == "stream":
            self.sock.listen(self.address.backlog or backlog)

    def close(self) -> None:
        self.sock.close()

    def unlink(self) -> None:
        """Remove the socket file, if it is ours and still the one we made."""
        if self.owns_path:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.address.host).st_ino == self.inode:
                    os.unlink(self.address.host)


def open_listeners(
    wanted: Iterable[tuple[str, BindAddress, int]], backlog: int,
    named: Mapping[str, list[socket.socket]],
    umask: int = 0, owner: tuple[int, int] | None = None,
) -> list[Listener]:
    """Open every (server name, address, slot), or none.

    The slots of one address get one port, also where the system chooses it. `named` are the
    sockets systemd passed, by name. Raises BindError with one line.
    """
    opened: list[Listener] = []
    try:
        for name, address, slot in wanted:
            first = next((x for x in opened if x.slot and x.name == name
                          and x.address == address), None)
            port = address.port if first is None else first.getsockname()[1]
            listener = open_listener(name, replace(address, port=port), named, umask, owner)
            listener.address, listener.slot = address, slot
            opened.append(listener)
            try:
                listener.listen(backlog)
            except OSError as error:
                raise _refusal(name, address, error) from error
    except BaseException:
        for listener in opened:
            listener.close()
            listener.unlink()
        raise
    return opened


def open_listener(
    name: str, address: BindAddress, named: Mapping[str, list[socket.socket]], umask: int,
    owner: tuple[int, int] | None,
) -> Listener:
    """One of :func:`open_listeners`, which does not listen yet. Raises BindError."""
    try:
        if address.family == "fd":
            from apihour.bind.inherited import inherit  # this and below read where it is asked only

            sock = inherit(address.port)
        elif address.family == "systemd":
            from apihour.bind.inherited import passed

            sock = passed(address.host, named)
        elif address.family == "unix":
            from apihour.bind.unix_sockets import open_unix

            sock = open_unix(address, umask, owner)
        else:
            sock = _open_inet(address)
    except (OSError, ValueError) as error:
        raise _refusal(name, address, error) from error
    sock.setblocking(False)
    sock.set_inheritable(False)
    return Listener(name, address, sock, address.is_path)


def _open_inet(address: BindAddress) -> socket.socket:
    kind = socket.SOCK_DGRAM if address.family == "udp" else socket.SOCK_STREAM
    found = socket.getaddrinfo(
        address.host, address.port, type=kind, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        if not address.host.replace(".", "").isdigit() and ":" not in address.host
        else socket.AI_PASSIVE,
    )
    family, _, protocol, _, sockaddr = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        if address.family == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(name: str, address: BindAddress, error: OSError | ValueError) -> BindError:
    from apihour.bind.refused_bind import refusal  # read where the system refuses one only

    return refusal(name, address, error)
