"""One SSH connection of the console: whose key it is, how many tries, how many sessions.

Rules:

- The only module of the console that uses names asyncssh does not document; each says why,
  and a test fails when a release moves one.
- The key's entry decides the role; the login name chooses nothing.
- Too many failed tries end a connection (MaxAuthTries of sshd_config(5)), and it may have
  so many sessions at once (MaxSessions). No forwarding, agent or subsystem is ever granted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncssh

from apihour.bind.peers import format_peer
from apihour_console.keys.authorized import AuthorizedKey, AuthorizedKeys
from apihour_console.text.render import clean
from apihour_ssh._asyncssh import GreetedConnection, certificate_names
from apihour_ssh.admission import Admission, Ticket

__all__ = ["ConsoleChannel", "ConsoleConnection", "ConsoleServer"]


_NAMED = 6  # keys refused on one connection that the audit log names


class ConsoleChannel(asyncssh.SSHServerChannel[bytes]):
    """A channel that learns when the client's reader went away (``ssh host cmd | head``)."""

    def _process_eow_at_openssh_dot_com_request(self, packet: Any) -> bool:
        """OpenSSH's ``eow@openssh.com`` (PROTOCOL, 2.1): nobody reads our output any more.

        asyncssh finds handlers by this kind of name; without it the client would wait for
        the end of a stream that has none.
        """
        packet.check_end()
        closed = getattr(self._session, "reader_closed", None)
        if closed is not None:
            closed()
        return True


class ConsoleConnection(GreetedConnection):
    """asyncssh's server connection, with its tries counted and its options left alone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHServerConnectionOptions,
        admission: Admission, ticket: Ticket, peer: tuple[str, int] | None = None,
    ) -> None:
        """`ticket`: what `admission` gave it; `peer`: behind a proxy."""
        super().__init__(loop, options)
        self.ticket = ticket
        self._true_peer = peer
        self._admission = admission
        self._tries = admission.limits.auth_tries
        self.failures = -1  # the probe with method "none", sent first by all, is free
        self.refused: list[str] = []
        """Fingerprints of the keys that were offered and did not let in; the first few."""
        self._offered = ""
        self.certificate = self.key_id = ""
        """Key id and serial of the certificate that was offered last and holds, and its id."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncssh does it; then the true peer replaces the proxy, for ``from=``."""
        if self._true_peer is not None:
            self.set_extra_info(peername=self._true_peer)
        super().connection_made(transport)
        if self._true_peer is not None:
            self._peer_addr, self._peer_port = self._true_peer

    def connection_lost(self, exc: Exception | None = None) -> None:
        """As asyncssh does it; its place is free again."""
        self._admission.leave(self.ticket)
        super().connection_lost(exc)

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """As asyncssh does it; who offers an authorised key is not the first to make room."""
        self._offered, self.certificate = _fingerprint(key_data), ""
        valid = await super().validate_public_key(username, key_data, msg, signature)
        if valid:
            self._admission.offer(self.ticket)
        elif self._offered not in self.refused and len(self.refused) < _NAMED:
            self.refused.append(self._offered)
        return valid

    async def _validate_openssh_certificate(self, username: str, cert: Any) -> Any:
        """As asyncssh does it; what it is called is kept for the audit log."""
        key_id, serial = certificate_names(cert)
        named = f"{clean(key_id)[:100]!r} serial {serial}"
        self._offered = f"{cert.key.get_fingerprint()} certificate {named}"
        key = await super()._validate_openssh_certificate(username, cert)
        if key is not None:
            self.certificate = named
            self.key_id = clean(key_id)[:64]
        return key

    async def send_userauth_success(self) -> None:
        """As asyncssh does it, after the login has left the share of those under way."""
        self._admission.log_in(self.ticket)
        await super().send_userauth_success()

    async def reload_config(self) -> None:
        """Nothing depends on who logs in, so options need not be made again.

        asyncssh rebuilds them in the loop's default executor at each login, and a login
        would wait for whatever keeps that busy.
        """

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> asyncssh.SSHServerChannel[bytes]:
        """As asyncssh makes it; then it becomes ours: there is no hook to choose the class."""
        channel = super().create_server_channel(None, "strict", window, max_pktsize)
        channel.__class__ = ConsoleChannel
        return channel

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Count every refused try, of whatever method, and end the connection at the limit."""
        self.failures += 1
        if self._tries and self.failures >= self._tries:
            self.disconnect(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )
            return
        super().send_userauth_failure(partial_success)


def _fingerprint(key_data: bytes) -> str:
    """What ``ssh-keygen -l`` says of a public key, which may be of any kind."""
    digest = base64.b64encode(hashlib.sha256(key_data).digest())
    return "SHA256:" + digest.decode().rstrip("=")


class _Matcher(asyncssh.SSHAuthorizedKeys):
    """Stands for asyncssh's authorised keys, and remembers which entry matched last."""

    def __init__(self, keys: Callable[[], AuthorizedKeys]) -> None:
        super().__init__()
        self._keys = keys
        self.entry: AuthorizedKey | None = None

    def validate(
        self, key: asyncssh.SSHKey, client_host: str, client_addr: str,
        cert_principals: Sequence[str] | None = None, ca: bool = False,
    ) -> Mapping[str, object] | None:
        self.entry = None
        found = self._keys().match(key, client_host, client_addr, cert_principals, ca)
        if found is None:
            return None
        self.entry, options = found
        return options


class ConsoleServer(asyncssh.SSHServer):
    """Decides who gets in, and makes a session for each channel.

    `authorized` returns the keys of now; `make_session` gets this object; `logged_in` and
    `lost` are told about this object; `check` kicks it when its key is gone; `most_sessions`:
    at once, 0: no limit.
    """

    def __init__(
        self, most_sessions: int, authorized: Callable[[], AuthorizedKeys],
        make_session: Callable[[ConsoleServer], asyncssh.SSHServerSession[bytes]],
        logged_in: Callable[[ConsoleServer], None], lost: Callable[[ConsoleServer], None],
        check: Callable[[ConsoleServer], None],
    ) -> None:
        self._most_sessions = most_sessions
        self._matcher = _Matcher(authorized)
        self._make_session = make_session
        self._logged_in = logged_in
        self._lost = lost
        self._check = check
        self.connection: ConsoleConnection | None = None
        self.sessions: set[Any] = set()
        self.entry: AuthorizedKey | None = None
        self.name = ""
        self.network = ""
        self.peer = ""
        self.kicked = False
        self._begun = self._quiet_since = time.monotonic()
        self._had_session = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        assert isinstance(conn, ConsoleConnection)  # whose options have made this object
        self.connection = conn
        peer = conn.get_extra_info("peername")
        self.network = conn.ticket.network
        self.peer = format_peer(peer)
        conn.set_authorized_keys(self._matcher)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)

    @property
    def failures(self) -> int:
        """Tries to log in that were refused."""
        return max(0, self.connection.failures) if self.connection is not None else 0

    def is_new(self, seconds: float) -> bool:
        """Whether it began so lately, and has had no session yet."""
        return not self._had_session and time.monotonic() - self._begun < seconds

    @property
    def idle(self) -> float:
        """Seconds since it had a session."""
        return 0.0 if self.sessions else time.monotonic() - self._quiet_since

    def session_ended(self, session: Any) -> None:
        """One of its sessions is over."""
        self.sessions.discard(session)
        self._quiet_since = time.monotonic()

    def begin_auth(self, username: str) -> bool:
        self.name = username
        return True

    def auth_completed(self) -> None:
        self.entry = self._matcher.entry
        self._logged_in(self)

    def session_requested(self) -> Any:
        self._check(self)
        if self.kicked:
            return False
        most = self._most_sessions
        if self.entry is None or (most and len(self.sessions) >= most):
            return False
        session = self._make_session(self)
        self.sessions.add(session)
        self._had_session = True
        return session

    # asyncssh would answer these with "connect failed", as if somebody had tried.

    def connection_requested(self, *destination: Any) -> Any:
        raise _prohibited("TCP forwarding")

    def unix_connection_requested(self, dest_path: str) -> Any:
        raise _prohibited("Unix socket forwarding")

    def close(self, reason: str) -> None:
        """End the connection with a word to the client."""
        if self.connection is not None:
            self.connection.disconnect(asyncssh.DISC_BY_APPLICATION, reason)


def _prohibited(what: str) -> asyncssh.ChannelOpenError:
    return asyncssh.ChannelOpenError(
        asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, f"{what} is prohibited here"
    )
