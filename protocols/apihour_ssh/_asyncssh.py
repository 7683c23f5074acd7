"""A connection of asyncssh as this package serves it; every private name of asyncssh.

Rules:

- No other module touches what asyncssh does not document; the test beside
  (``tests/apihour_ssh/test_asyncssh.py``) names what moved when a release moves it.
- Limits that need the protocol are kept here: attempts, sessions, idleness, draining.

Names used and why: ``SSHServerConnection(loop, options)`` (asyncssh has no public way to
make the protocol of a connection that another loop accepted and wants to hand over
unconnected); ``reload_config``, overridden because it rebuilds the options in the loop's
default executor at each login, where a busy one delayed logins by seconds;
``send_userauth_failure``, ``send_userauth_success``, ``validate_public_key`` and
``internal_error``, overridden to count, to look at expiry and to log;
``_authorized_client_keys``, ``_peer_addr``, ``_peer_port`` (set: keys read again, the true
peer behind a PROXY header); ``_channels``, ``_username`` (read: is anything open, by whom);
``remove_channel``, overridden to see the last session end;
``_process_eow_at_openssh_dot_com_request`` of a channel (handlers are found by such names);
``_send_disconnect``, ``_force_close`` (the documented ``disconnect`` closes the channels first,
and OpenSSH's client then leaves before it reads the reason); ``get_kex_algs`` of
``asyncssh.kex`` (what this build can do); ``process_packet`` of a channel (idleness);
``_send_version``, overridden: it has been sent when the connection waited for its turn;
``_version`` and ``_server_version`` with it (what the key exchange signs);
``_key_id`` and ``_serial`` of a certificate (there is no public way to what it is called).
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import socket
import struct
import sys
import time
import weakref
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.kex import get_kex_algs

from apihour_ssh.admission import Ticket
from apihour_ssh.authorized import AuthorizedKeysFile, is_expired
from apihour_ssh.limits import Limits
from apihour_ssh.parting import Parting

__all__ = ["ConnectionHost", "GreetedConnection", "HostedConnection", "available_kex",
           "certificate_names", "greeting", "with_exit_status"]


_RTT = 68  # bytes before tcpi_rtt in Linux's struct tcp_info


class ConnectionHost(Protocol):
    """What a connection needs of the server it belongs to."""

    limits: Limits
    draining: bool

    @property
    def name(self) -> str: ...
    @property
    def logger(self) -> logging.Logger: ...
    @property
    def options(self) -> asyncssh.SSHServerConnectionOptions: ...
    @property
    def keys_file(self) -> AuthorizedKeysFile | None: ...
    def connection_opened(self, connection: HostedConnection) -> None: ...
    def connection_logged_in(self, connection: HostedConnection) -> None: ...
    def connection_gone(self, connection: HostedConnection) -> None: ...
    def login_failed(self, connection: HostedConnection) -> None: ...
    def key_offered(self, connection: HostedConnection) -> None: ...
    def connection_emptied(self, connection: HostedConnection) -> None: ...


def greeting(options: asyncssh.SSHServerConnectionOptions) -> bytes:
    """The version of a server with those options as it goes over the wire (RFC 4253 4.2)."""
    return b"SSH-2.0-" + bytes(options.version) + b"\r\n"


class GreetedConnection(asyncssh.SSHServerConnection):
    """A connection whose client has the server's version already."""

    def _send_version(self) -> None:
        """Note it as asyncssh does: the key exchange signs it."""
        self._server_version = b"SSH-2.0-" + self._version
        self.set_extra_info(server_version=self._server_version.decode("ascii"))


class HostedConnection(GreetedConnection):
    """One SSH connection that holds `ticket`; `row` is the core's row for it, or None."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: ConnectionHost, ticket: Ticket, row: Any = None
    ) -> None:
        super().__init__(loop, host.options)
        self.host = host
        self.row = row
        self.ticket = ticket
        self.address = ticket.address
        self.logged_in_at: float | None = None
        self.sessions_opened = 0
        self._read_keys: Any = None
        self.touched = loop.time()
        self.parting = Parting(time.monotonic())
        # The probe with method "none", which every client sends first, is free.
        self.auth_failures = -1
        self.server_channels: weakref.WeakSet[Any] = weakref.WeakSet()
        self.told: weakref.WeakSet[Any] = weakref.WeakSet()
        self.late: weakref.WeakSet[Any] = weakref.WeakSet()

    # From the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.host.connection_opened(self)
        true_peer = getattr(self.row, "peer_address", None)
        if isinstance(true_peer, tuple):
            self.set_extra_info(peername=true_peer)
        self._state("login")
        super().connection_made(transport)
        if isinstance(true_peer, tuple):
            self._peer_addr, self._peer_port = str(true_peer[0]), int(true_peer[1])

    def connection_lost(self, exc: Exception | None = None) -> None:
        try:
            super().connection_lost(exc)
        finally:
            self.host.connection_gone(self)

    # Logging in.

    async def reload_config(self) -> None:
        """Take the authorised keys as they are now; nothing else depends on who logs in."""
        if self.host.keys_file is not None:
            self._read_keys = self._authorized_client_keys = self.host.keys_file.current()

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """As asyncssh does, by the keys of this moment, and ``expiry-time`` of the key's line."""
        if self._authorized_client_keys is self._read_keys:  # else a server_factory set others
            await self.reload_config()
        valid = await super().validate_public_key(username, key_data, msg, signature)
        expiry = self.get_key_option("expiry-time")
        if not valid or is_expired(expiry, datetime.datetime.now(datetime.UTC)):
            return False
        self.host.key_offered(self)
        return True

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Count the attempt, and end the connection after too many (MaxAuthTries)."""
        self.auth_failures += not partial_success
        if self.auth_failures > 0 and not partial_success:
            self.host.login_failed(self)
        tries = self.host.limits.auth_tries
        if tries and self.auth_failures >= tries:
            self.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
                            "Too many authentication failures")
            return
        super().send_userauth_failure(partial_success)

    async def send_userauth_success(self) -> None:
        """Note the login."""
        self.logged_in_at = self.touched = self._loop.time()
        self.parting.emptied(time.monotonic())
        self._state("open")
        self.host.connection_logged_in(self)
        await super().send_userauth_success()

    @property
    def user(self) -> str:
        """The name the client logs in with; it chooses nothing here."""
        return self._username

    # Sessions.

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> asyncssh.SSHServerChannel[Any]:
        """Refuse a session too many (MaxSessions)."""
        most = self.host.limits.sessions
        if most and len(self.open_sessions()) >= most:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE,
                                            f"Too many sessions, at most {most}")
        was_empty = not self.has_channels()
        channel = super().create_server_channel(encoding, errors, window, max_pktsize)
        self.parting.opened(time.monotonic(), was_empty)
        self.sessions_opened += 1
        self.server_channels.add(channel)
        cast(Any, channel)._process_eow_at_openssh_dot_com_request = functools.partial(
            _reader_left, channel)
        if self.host.draining:
            self.late.add(channel)
        self._state("session")
        if self.host.limits.idle:
            self._watch(channel)
        return channel

    def remove_channel(self, recv_chan: int) -> None:
        """As asyncssh does; the last one that closes may be the moment to part."""
        super().remove_channel(recv_chan)
        if not self.has_channels():
            self.parting.emptied(time.monotonic())
            if self.host.draining:
                self.parting.rtt = _round_trip(self.get_extra_info("socket"))
            self.host.connection_emptied(self)

    def open_sessions(self) -> list[Any]:
        """The channels of the sessions that are open."""
        return [c for c in self.server_channels if not c.is_closing()]

    def has_channels(self) -> bool:
        """Whether a session, a forwarding or a listener keeps the connection in use."""
        return bool(self._channels)

    def notify(self, text: str) -> None:
        """Tell each open session once, on its standard error.

        Subsystems are left alone, and so are commands that began in the drain: short ones.
        """
        for channel in self.open_sessions():
            if channel in self.told or not self._started(channel):
                continue
            if channel in self.late and not channel.get_terminal_type():
                continue
            self.told.add(channel)
            encoding, _ = channel.get_encoding()
            line = f"\r\n{text}\r\n" if channel.get_terminal_type() else f"\n{text}\n"
            channel.write_stderr(line if encoding else line.encode())

    def end(self, reason: str) -> None:
        """Disconnect; the client's user reads `reason`."""
        self._send_disconnect(asyncssh.DISC_BY_APPLICATION, reason, asyncssh.DEFAULT_LANG)
        self._force_close(None)

    def _started(self, channel: Any) -> bool:
        """Whether the session runs a shell or a command, so that it reads its streams."""
        begun = channel.get_command() is not None or channel.get_terminal_type() is not None
        return begun and channel.get_subsystem() is None

    def _watch(self, channel: Any) -> None:
        """Note every packet and every write of a session."""
        process, write = channel.process_packet, channel.write

        def process_packet(*arguments: Any) -> Any:
            self.touched = self._loop.time()
            return process(*arguments)

        def noted_write(*arguments: Any) -> None:
            self.touched = self._loop.time()
            write(*arguments)

        channel.process_packet, channel.write = process_packet, noted_write

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """Log what asyncssh would only say at its debug level; the connection ends."""
        self.host.logger.error("server %r: %s: connection closed", self.host.name, self.address,
                               exc_info=exc_info or sys.exc_info())
        super().internal_error(exc_info, error_logger)

    def _state(self, word: str) -> None:
        if self.row is not None:
            self.row.state = word


def _round_trip(sock: Any) -> float:
    """Seconds that TCP has measured (``tcpi_rtt`` of tcp(7), TCP_INFO); 0.0 where it is none."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        (microseconds,) = struct.unpack_from("I", sock.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _RTT + 4), _RTT)
    except (OSError, struct.error, AttributeError):  # a unix socket, or one that has gone
        return 0.0
    return float(microseconds) / 1e6


def _reader_left(channel: Any, packet: Any) -> bool:
    """OpenSSH's ``eow@openssh.com`` (PROTOCOL, 2.1): the client's own reader has gone.

    What the session writes from now on raises BrokenPipeError, as it would in a shell's pipe;
    without it ``ssh host command | head`` waits for the end of a command that has none.
    """
    packet.check_end()
    channel.write_eof()
    return True


def available_kex(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that this asyncssh can do (mlkem needs a recent cryptography).

    Raises ValueError when it can do none: asyncssh would take an empty list for its defaults.
    """
    have = {name.decode("ascii") for name in get_kex_algs()}
    found = tuple(name for name in names if name in have)
    if not found:
        raise ValueError(
            f"key exchange {', '.join(names)}: this asyncssh has none of them; expected newer "
            "asyncssh and cryptography packages"
        )
    return found


def certificate_names(certificate: Any) -> tuple[str, int]:
    """Key id and serial of an OpenSSH certificate (PROTOCOL.certkeys)."""
    return str(certificate._key_id), int(certificate._serial)


def with_exit_status(factory: Any) -> Any:
    """An SFTP server factory whose sessions end with status 0.

    asyncssh ends the subsystem without one, and OpenSSH's ``scp`` then returns 1 after a
    good copy. ``True`` stands for asyncssh's own SFTP server.
    """
    if not factory:
        return factory
    make = asyncssh.SFTPServer if factory is True else factory

    async def made(channel: Any) -> Any:
        server: Any = make(channel)
        if asyncio.iscoroutine(server):
            server = await server
        leave = server.exit

        def leave_with_status() -> Any:
            result = leave()
            # The scp command, without the subsystem, sends its own.
            if channel.get_subsystem() == "sftp" and not channel.is_closing():
                channel.exit(0)
            return result

        server.exit = leave_with_status
        return server

    return made
