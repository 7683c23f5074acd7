"""The SSH server of the console: accepts, lets keys in, keeps sessions, and kicks them.

Rules:

- It accepts by itself, so that a refused connection costs no handshake.
- Keys and host key are looked at when somebody logs in, and once a second: a removed or
  changed key ends its sessions.
- Draining stops accepting and tells the operators; their sessions end when they leave, or when
  their key is removed. Who was about to log in gets a session yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import asyncssh

from apihour.bind.peers import format_peer
from apihour.ops.model import Role
from apihour_console.calls.call import Identity
from apihour_console.faces.server_settings import ServerSettings
from apihour_console.faces.ssh_connection import ConsoleConnection, ConsoleServer
from apihour_console.keys.authorized import AuthorizedKeys
from apihour_console.keys.directory import KeyDirectory, KeysError
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.command_shell import ShellContext
from apihour_console.shell.runner import FleetLike
from apihour_console.shell.session import Session
from apihour_console.text.render import clean
from apihour_ssh import hardening
from apihour_ssh._asyncssh import available_kex
from apihour_ssh.admission import Admission, Ticket
from apihour_ssh.arrival import Arrival, Lobby
from apihour_ssh.farewell import Farewell
from apihour_ssh.known import KnownNetworks
from apihour_ssh.limits import TokenBucket

__all__ = ["ServerSettings", "ShellServer"]

# Failed logins that are recorded one by one, a second and at once; further ones are counted.
_REFUSED_RATE, _REFUSED_BURST = 0.2, 20
_NOBODY = ("nobody can log in here: no key is authorised, or they cannot be used (the daemon's "
           "log says which); on its host: apihour keys add FILE.pub --role admin")
_WATCH = 1.0  # seconds between looks at the key files and at idle sessions
_NEWCOMERS = 3.0  # seconds that who had connected has for a login and the first session
_SILENT = 0.3  # seconds of them in which a client that speaks first has spoken
_POLL = 0.05
_KNOWN = "shell_networks"  # beside the histories: the networks of earlier logins


class ShellServer:
    """Serves the shell on sockets it is given."""

    def __init__(
        self, fleet: FleetLike, audit: AuditLog, keys: KeyDirectory, settings: ServerSettings,
        logger: logging.Logger,
    ) -> None:
        self.fleet = fleet
        self.audit = audit
        self.keys = keys
        self.settings = settings
        self.logger = logger
        self.known = KnownNetworks(
            settings.history / _KNOWN if settings.history is not None else None, logger)
        self.admission = Admission(settings.limits, time.monotonic(), self.known)
        self._lobby = Lobby(self.admission, settings.login_timeout)
        self.authorized = AuthorizedKeys()
        self.connections: set[ConsoleServer] = set()
        self._options: asyncssh.SSHServerConnectionOptions | None = None
        self.is_banned: Callable[[Any], bool] = lambda peer: False
        self._listening: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None
        self._arrivals: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._seen: tuple[Any, ...] = ()
        self._full_logged = 0.0
        self._refusals = TokenBucket(_REFUSED_RATE, _REFUSED_BURST, time.monotonic())
        self._refused_more = 0

    def configure(self, host_key: asyncssh.SSHKey, authorized: AuthorizedKeys) -> None:
        """Use these keys for connections from now on.

        Raises ValueError when this asyncssh cannot do the key exchange that is asked for.
        """
        self.authorized = authorized
        self._seen = self._fingerprint_files()
        algorithms = hardening.STRICT if self.settings.strict else hardening.COMPATIBLE
        facts = {
            **hardening.options(algorithms), "kex_algs": available_kex(algorithms.kex),
            "server_factory": self._make_server, "server_host_keys": [host_key],
            "allow_scp": False, "line_editor": False, "encoding": None,
            "login_timeout": self.settings.login_timeout,
            "keepalive_interval": self.settings.keepalive,
        }
        hardening.quieten()
        self._options = asyncssh.SSHServerConnectionOptions(**facts)

    # Accepting.

    def listen(self, sock: socket.socket) -> None:
        """Accept on a bound, listening socket until :meth:`stop_accepting`."""
        sock.setblocking(False)
        self._listening.append(asyncio.get_running_loop().create_task(self._accept(sock)))

    def watch(self) -> None:
        """Begin to look after key files and idle sessions, until :meth:`stop`."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, peer = await loop.sock_accept(listener)
                except OSError as error:
                    await self._accept_failed(error)
                    continue
                self._arrived(sock, peer)

    async def _accept_failed(self, error: OSError) -> None:
        if error.errno in (errno.ECONNABORTED, errno.EPROTO, errno.EINTR):
            return  # accept(2): the client was faster
        if time.monotonic() - self._full_logged > 10:
            self._full_logged = time.monotonic()
            self.logger.error("shell: cannot accept: %s", error.strerror)
        await asyncio.sleep(0.1)

    def _arrived(self, sock: socket.socket, peer: Any) -> None:
        """Close a connection that is banned, before anything is known of it, or let it wait."""
        if self.is_banned(peer):
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._let_in(sock, peer))
        self._arrivals.add(task)
        task.add_done_callback(self._arrivals.discard)

    async def _let_in(self, sock: socket.socket, peer: Any) -> None:
        address = peer[0] if isinstance(peer, tuple) else ""
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.arrival(address), sock)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            self.logger.debug("shell: connection of %s: %s", format_peer(peer), error)

    def arrival(self, address: str, peer: tuple[str, int] | None = None) -> Arrival:
        """The protocol of one accepted connection, from `peer` where a proxy stands before it."""
        return Arrival(
            self._lobby, hardening.GREETING, lambda transport: address,
            lambda ticket: self.protocol(ticket, peer), lambda refused: None,
            queues=self._can_log_in(),
        )

    def _can_log_in(self) -> bool:
        """Whether there is a host key, as there is when a key is authorised."""
        self._keys_of_now()
        return self._options is not None

    def protocol(
        self, ticket: Ticket, peer: tuple[str, int] | None = None
    ) -> ConsoleConnection | Farewell:
        """The protocol of one admitted connection, from `peer` where a proxy stands before it.

        Where nobody can log in it says what is missing.
        """
        if not self._can_log_in() or self._options is None:
            return Farewell(_NOBODY, lambda: self.admission.leave(ticket))
        return ConsoleConnection(
            asyncio.get_running_loop(), self._options, self.admission, ticket, peer
        )

    def stop_accepting(self) -> None:
        """Close the listeners; who is there may go on, and is looked after."""
        for task in self._listening:
            task.cancel()
        self._listening.clear()

    def _refuse_newcomers(self) -> None:
        for task in self._arrivals:
            task.cancel()
        self._lobby.close()

    # Connections and sessions.

    def _make_server(self) -> ConsoleServer:
        server = ConsoleServer(
            self.settings.limits.sessions, self._keys_of_now, self._make_session,
            self._logged_in, self._lost, self._check,
        )
        self.connections.add(server)
        return server

    def _logged_in(self, server: ConsoleServer) -> None:
        self.known.add(server.network)
        self._record("login", self.identity(server))

    def _lost(self, server: ConsoleServer) -> None:
        self.connections.discard(server)
        if server.entry is None and server.failures:
            self._refused(server)

    def _refused(self, server: ConsoleServer) -> None:
        """Record a failed login, but not each of a flood: it must not turn the log over."""
        if not self._refusals.take(time.monotonic()):
            self._refused_more += 1
            return
        keys = server.connection.refused if server.connection is not None else []
        outcome = f"{server.failures} key{'s' * (server.failures != 1)} refused"
        if len(keys) > 1 or any(" " in key for key in keys):
            outcome += f": {', '.join(keys)}"
        if self._refused_more:
            outcome += f"; {self._refused_more} connections before it as well"
        self._refused_more = 0
        who = Identity(clean(server.name)[:64], address=server.peer,
                       fingerprint=keys[-1].partition(" ")[0] if keys else "")
        self._record("refused", who, outcome)

    def _record(self, event: str, who: Identity, outcome: str = "ok") -> None:
        self.audit.record_of(event, who, outcome=outcome)

    def identity(self, server: ConsoleServer) -> Identity:
        """Who is behind a connection that logged in."""
        entry = server.entry
        if entry is None:
            return Identity(clean(server.name)[:64], address=server.peer)
        connection = server.connection
        key_id = connection.key_id if entry.authority and connection is not None else ""
        return Identity(
            name=clean(key_id or entry.comment or server.name)[:64], role=Role.parse(entry.role),
            fingerprint=entry.fingerprint, address=server.peer,
            certificate=connection.certificate if connection is not None else "",
        )

    def _make_session(self, server: ConsoleServer) -> Session:
        identity = self.identity(server)
        settings = self.settings
        context = ShellContext(
            fleet=self.fleet, audit=self.audit, identity=identity, logger=self.logger,
            name=settings.name, greeting=settings.greeting(identity), directory=settings.history,
        )
        return Session(context, self.logger, functools.partial(self._session_ended, server))

    def _session_ended(self, server: ConsoleServer, session: Session) -> None:
        server.session_ended(session)
        self._ended.set()

    def sessions(self) -> Iterator[Session]:
        """The open sessions of all connections."""
        for server in list(self.connections):
            yield from list(server.sessions)

    def end_session(self, session: Session, reason: str) -> None:
        """End one session, saying why; its connection stays."""
        self._record("kicked", session.identity, reason)
        session.close(f"apihour: {reason}: goodbye")

    def kick(self, server: ConsoleServer, reason: str) -> None:
        """End a connection and all its sessions, saying why."""
        self._record("kicked", self.identity(server), reason)
        for session in list(server.sessions):
            session.close(f"apihour: {reason}")
        asyncio.get_running_loop().call_later(0.2, server.close, reason)

    # Watching.

    def _fingerprint_files(self) -> tuple[Any, ...]:
        """What changes when a key file does, or who may write it."""
        found: list[Any] = []
        for path in (self.keys.authorized, self.keys.host_key):
            try:
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino))
            except OSError as error:
                found.append(error.errno)
        with contextlib.suppress(OSError):  # told of the files in it
            facts = self.keys.path.stat()
            found.append((facts.st_mode, facts.st_uid))
        return tuple(found)

    def _keys_of_now(self) -> AuthorizedKeys:
        """The keys as the file has them when somebody offers one; looking costs stat(2)."""
        if self._fingerprint_files() != self._seen:
            self.reload_keys()
        return self.authorized

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            self._end_idle()
            self._keys_of_now()
            for server in list(self.connections):
                self._check(server)

    def reload_keys(self) -> None:
        """Read the key files again. What cannot be read lets nobody new in, and is said."""
        self._seen = self._fingerprint_files()
        had = len(self.authorized.keys)
        try:
            self.authorized = self.keys.read_authorized()
            host_key = self.keys.read_host_key()
            if host_key is None and self.authorized.keys:
                host_key = self.keys.make_host_key()
            if host_key is not None:
                self.configure(host_key, self.authorized)
        except (KeysError, ValueError) as error:
            self.authorized = replace(self.authorized, keys=())
            self.logger.error("shell: %s; nobody may log in", error)
            return
        for problem in self.authorized.problems:
            self.logger.warning("shell: %s", problem)
        if had or self.authorized.keys:
            self.logger.info("shell: keys read again, %d authorised", len(self.authorized.keys))

    def _check(self, server: ConsoleServer) -> None:
        """End a connection whose key is gone, expired or has another role now."""
        entry = server.entry
        if entry is None or server.kicked:
            return
        now = self._keys_of_now().find(entry.fingerprint, entry.authority)
        if now is None or now.role != entry.role:
            server.kicked = True
            reason = "your key was removed" if now is None else f"your role is {now.role} now"
            self.kick(server, f"{reason}: goodbye")

    def _end_idle(self) -> None:
        limit = self.settings.idle_timeout
        if limit <= 0:
            return
        for server in list(self.connections):
            for session in list(server.sessions):
                if session.idle > limit:
                    session.close(f"idle for {limit:.0f} s: goodbye")
            if server.entry is not None and server.idle > limit:
                server.close("idle")

    # Leaving.

    async def drain(self, deadline: float, reason: str) -> None:
        """Stop accepting, tell the operators, wait for the last session until `deadline`.

        `deadline`: seconds from now; infinite for an old console that retires.
        """
        self.stop_accepting()
        for session in self.sessions():
            session.notify(reason)
        try:
            async with asyncio.timeout(None if deadline == math.inf else deadline):
                await self._let_newcomers_in()
                while any(True for _ in self.sessions()):
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            self.logger.info("shell: %d sessions are ended", len(list(self.sessions())))

    async def _let_newcomers_in(self) -> None:
        """A client that had connected already would read that the connection was closed."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < _NEWCOMERS:
            has_some = self._arrivals or self._lobby.has_some(silent=waited < _SILENT)
            if not has_some and not any(one.is_new(_NEWCOMERS) for one in self.connections):
                break
            await asyncio.sleep(_POLL)
        self._refuse_newcomers()

    def end_after(self, delay: float) -> None:
        """End the sessions there are in `delay` seconds."""
        loop = asyncio.get_running_loop()
        for session in self.sessions():
            loop.call_later(delay, session.close, "apihour: the daemon is gone: goodbye")

    async def stop(self, reason: str = "the console ends") -> None:
        """End every connection now."""
        self.stop_accepting()
        self._refuse_newcomers()
        if self._watching is not None:
            self._watching.cancel()
        servers = list(self.connections)
        for server in servers:
            for session in list(server.sessions):
                session.close(f"apihour: {reason}")
        if servers:
            await asyncio.sleep(0.05)  # the goodbyes leave in this time
        for server in servers:
            server.close(reason)
