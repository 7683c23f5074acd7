"""The TLS stage of stream binds: handshakes, what they agreed on, and the end of TLS.

Rules:

- Certificates are read when a worker starts, before it drops its privileges, and the probe finds
  the bad ones first; :mod:`apihour.tls.renewal` has new ones read later.
- A protocol is made when its handshake is over: one that stalls or fails costs no more than
  its own connection, and no line but a debug one.
- Nobody is waited for who has everything and only does not answer close_notify, as RFC 5246
  7.2.1 and RFC 8446 6.1 allow: clients with an idle connection in a pool do not look.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from functools import partial
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Protocol, cast

from apihour.plugins import Connection
from apihour.tls.certificates import file_names, make_contexts
from apihour.tls.choosing import choose_by_name, name_table
from apihour.tls.libssl import shrink_tls_buffers
from apihour.tls.served import served_certificate

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress
    from apihour.bind.listeners import Listener

__all__ = ["Handshake", "Stamps", "TLSFacts", "Terminator", "prepare"]

Stamps = tuple[tuple[int, ...] | None, ...]
"""What is known of files without reading them: time, size and inode of each."""

_BUFFER = 32768  # bytes read at once by asyncio's TLS: two records of the largest size
_SHUTDOWN = 60.0  # seconds to take the last bytes and answer close_notify
_SILENCE = 1.0  # seconds between two looks for those that only do not answer it


@dataclass(frozen=True)
class TLSFacts:
    """What a connection's handshake agreed on; the certificate as ``SSLSocket.getpeercert()``."""

    version: str
    cipher: str
    alpn: str | None = None
    peer_certificate: Mapping[str, Any] | None = None


class AcceptedSocket(Protocol):
    """What the loop was handed of a connection."""

    def fileno(self) -> int: ...


class Encrypted(Connection, Protocol):
    """A connection with its descriptor."""

    @property
    def sock(self) -> AcceptedSocket: ...


class Handshake(asyncio.Protocol):
    """Stands in for the protocol of a connection until its handshake is over."""

    def __init__(self, conn: Encrypted, ready: Callable[[Any], asyncio.BaseProtocol]) -> None:
        self._conn = conn
        self._ready = ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ask = transport.get_extra_info
        over = ask("ssl_object")
        conn = self._conn
        conn.alpn = over.selected_alpn_protocol()
        conn.tls = TLSFacts(over.version(), over.cipher()[0], conn.alpn, ask("peercert") or None)
        # A cast: uvloop's transports do not derive from asyncio's.
        conn.transport = cast(asyncio.Transport, transport)
        conn.state = "open"
        protocol = self._ready(conn)
        conn.transport.set_protocol(protocol)
        protocol.connection_made(transport)


class Terminator:
    """Ends TLS for the connections of a listener, by the contexts of its certificates.

    `domains` are those it has certificates obtained for; `challenges` finds what proves to an ACME
    server that they are ours, by token.
    """

    domains: tuple[str, ...] = ()
    challenges: Callable[[str], str | None] | None = None
    problem = ""  # why what the files hold now is not served

    def __init__(
        self, make: Callable[[], list[ssl.SSLContext]], timeout: float, where: str = "",
        files: Sequence[str] = ("",), watched: Sequence[str] = (),
    ) -> None:
        """`make` reads the files and makes the contexts, the first for all new handshakes.

        `where` and `files`, one a certificate, are what operators know them by; `watched` the
        paths of all that is read. Raises what `make` does.
        """
        self.timeout = timeout
        self.where = where
        self.files = list(files)
        self._make = make
        self._watched = list(watched)
        self._alpn: list[str] = []
        self.loaded: Stamps = ()
        self.contexts: list[ssl.SSLContext] = []
        self.renew(self.stamps())
        self._closing: set[Encrypted] = set()
        self._silent: set[Encrypted] = set()

    def offer(self, protocols: Sequence[str]) -> None:
        """Offer these by ALPN (RFC 7301), the names as IANA registers them."""
        self._alpn = list(protocols)
        self._offer(self.contexts)

    def _offer(self, contexts: Iterable[ssl.SSLContext]) -> None:
        for context in contexts if self._alpn else ():
            context.set_alpn_protocols(self._alpn)

    def asked(self) -> None:
        """An operator wants the newest certificate to be served."""

    def stamps(self) -> Stamps:
        """What tells whether a file is another; of one that may not be looked at, as before.

        Those are root's, whose rights this worker has dropped: a reload takes new ones.
        """
        before: Stamps = self.loaded or (None,) * len(self._watched)
        return tuple(map(_stamp, self._watched, before))

    def renew(self, stamps: Stamps) -> None:
        """Read the files, whose `stamps` were taken before, for all new handshakes.

        Raises ConfigurationError; then nothing has changed.
        """
        contexts = self._make()
        self._offer(contexts)
        self.contexts = contexts
        self.context = contexts[0]
        self.loaded = stamps

    def connect(
        self, loop: asyncio.AbstractEventLoop, sock: AcceptedSocket, conn: Encrypted,
        ready: Callable[[Any], asyncio.BaseProtocol],
    ) -> Coroutine[Any, None, Any]:
        """Do the handshake; `ready` makes the protocol of a connection that has it behind it.

        Raises OSError (of which ssl.SSLError is one) when it fails or times out.
        """
        conn.state = "handshake"
        return loop.connect_accepted_socket(
            lambda: Handshake(conn, ready), cast("socket.socket", sock), ssl=self.context,
            ssl_handshake_timeout=self.timeout, ssl_shutdown_timeout=_SHUTDOWN,
        )

    def watch(self, loop: asyncio.AbstractEventLoop, conn: Encrypted) -> None:
        """See to it that the connection ends in time once it is closing."""
        if not self._closing:
            loop.call_later(_SILENCE, self._end_silence, loop)
        self._closing.add(conn)

    def _end_silence(self, loop: asyncio.AbstractEventLoop) -> None:
        self._closing = {conn for conn in self._closing if conn.sock.fileno() >= 0}
        before, self._silent = self._silent, set(filter(_has_all, self._closing))
        for conn in self._silent & before:
            assert conn.transport is not None
            conn.transport.abort()
        if self._closing:
            loop.call_later(_SILENCE, self._end_silence, loop)


def _has_all(conn: Encrypted) -> bool:
    """Whether a closing connection's peer has taken everything: only its goodbye is missing."""
    transport = conn.transport
    if transport is None or not transport.is_closing() or transport.get_write_buffer_size():
        return False
    try:
        return ioctl(conn.sock.fileno(), TIOCOUTQ, bytes(4)) == bytes(4)  # tcp(7), unix(7)
    except (OSError, ValueError):
        return False  # the system does not say, or the socket is gone


def _stamp(path: str, before: tuple[int, ...] | None) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except PermissionError:
        return before
    except (OSError, ValueError):
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def prepare(cfg: Any, listeners: Iterable[Listener]) -> dict[Listener, Terminator]:
    """The terminator of each listener of a ``?tls`` bind. Raises ConfigurationError."""
    terminators: dict[Listener, Terminator] = {}
    made: dict[tuple[str, BindAddress], Terminator] = {}
    for listener in listeners:
        address = listener.address
        if address.tls is not None:
            key = listener.name, address
            if key not in made and address.tls.domains:
                acme = importlib.import_module("apihour.tls.acme_answers")
                made[key] = acme.acme_terminator(cfg, *key, make_contexts)
            elif key not in made:
                made[key] = Terminator(
                    partial(_chosen, cfg, *key), cfg.tls_handshake_timeout,
                    f"bind {listener.name}={address}", *file_names(cfg, address.tls))
            terminators[listener] = made[key]
    if made:
        shrink_tls_buffers(_BUFFER)
    return terminators


def _chosen(cfg: Any, name: str, address: BindAddress) -> list[ssl.SSLContext]:
    """The contexts of a bind, the first of which goes on by the others."""
    contexts = make_contexts(cfg, name, address)
    if len(contexts) > 1:
        choose_by_name(contexts[0], name_table(
            [(context, served_certificate(context)) for context in contexts]))
    return contexts
