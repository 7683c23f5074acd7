"""The TLS stage of stream binds: handshakes, what they agreed on, and the end of TLS.

Rules:

- Certificates are read when a worker starts, before it drops its privileges: a reload takes
  new ones, and the probe finds the bad ones first.
- A protocol is made when its handshake is over: one that stalls or fails costs no more than
  its own connection, and no line but a debug one.
- Nobody is waited for who has everything and only does not answer close_notify, as RFC 5246
  7.2.1 and RFC 8446 6.1 allow: clients with an idle connection in a pool do not look.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Protocol, cast

from apihour.ipc.private import shrink_tls_buffers
from apihour.plugins import Connection
from apihour.tls.certificates import make_contexts
from apihour.tls.choosing import choose_by_name, name_table
from apihour.tls.served import served_certificate

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress
    from apihour.bind.listeners import Listener

__all__ = ["Handshake", "TLSFacts", "Terminator", "prepare"]

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
    """Ends TLS for the connections of a listener, by the contexts of its certificates."""

    def __init__(
        self, contexts: Sequence[ssl.SSLContext], timeout: float, files: Sequence[str] = ("",)
    ) -> None:
        """`files` are those of the certificates, as operators know them."""
        self.contexts = list(contexts)
        self.context = self.contexts[0]
        self.files = list(files)
        self.timeout = timeout
        self._watched: set[Encrypted] = set()
        self._silent: set[Encrypted] = set()

    def offer(self, protocols: Sequence[str]) -> None:
        """Offer these by ALPN (RFC 7301), the names as IANA registers them."""
        for context in self.contexts if protocols else ():
            context.set_alpn_protocols(list(protocols))

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
        if not self._watched:
            loop.call_later(_SILENCE, self._end_silence, loop)
        self._watched.add(conn)

    def _end_silence(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = {conn for conn in self._watched if conn.sock.fileno() >= 0}
        before, self._silent = self._silent, set(filter(_has_all, self._watched))
        for conn in self._silent & before:
            assert conn.transport is not None
            conn.transport.abort()
        if self._watched:
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


def prepare(cfg: Any, listeners: Iterable[Listener]) -> dict[Listener, Terminator]:
    """The terminator of each listener of a ``?tls`` bind. Raises ConfigurationError."""
    terminators: dict[Listener, Terminator] = {}
    made: dict[tuple[str, BindAddress], Terminator] = {}
    for listener in listeners:
        address = listener.address
        if address.tls is not None:
            key = listener.name, address
            if key not in made:
                files = [one.certificate for one in address.tls.files] or [cfg.certfile or ""]
                made[key] = Terminator(_chosen(cfg, *key), cfg.tls_handshake_timeout, files)
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
