"""SSHServer: an asyncssh server on connections that somebody else accepted.

Rules:

- Never open by accident: without keys and without a server factory it does not start.
- Limits are met before the key exchange; what a refused client costs is a closed socket.
- A failing session is one log line with its peer and exit status 1; the others of its
  connection go on.
- Draining gives every session a notice and its time; it ends when the last one left.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from apihour_ssh import hardening
from apihour_ssh.admission import Admission, Ticket
from apihour_ssh.arrival import Arrival, Lobby
from apihour_ssh.authorized import AuthorizedKeysFile
from apihour_ssh.hardening import COMPATIBLE, Algorithms
from apihour_ssh.hostkeys import DEFAULT_PATH, load_host_keys
from apihour_ssh.known import KnownNetworks
from apihour_ssh.limits import Limits

if TYPE_CHECKING:
    from apihour_ssh._asyncssh import HostedConnection

__all__ = ["SSHServer"]

NOTICE = "*** This server is going away: please finish what you are doing and log out. ***"
_GOODBYE = "The server is going away"
# How often drain looks at its connections, in seconds.
_POLL = 0.05
# So long before the deadline of a drain, in seconds, any moment without a session is the one to
# part: better than in the middle of one.
_LAST_MOMENTS = 1.0
# Seconds between the decision to part and the parting: the loop looks at its sockets meanwhile.
_BREATH = 0.002
# How often idle connections are looked for, and refusals and missing keys are reported, in
# seconds. Keys that a first start makes are there by then.
_SWEEP = 5.0
_STOP = 1.0
# Beside the keys: the networks from which somebody has logged in.
_KNOWN = "ssh_networks"


class SSHServer:
    """Serve asyncssh sessions.

    `server_factory` makes an ``asyncssh.SSHServer`` per connection, `process_factory` is
    called with each ``asyncssh.SSHServerProcess``. `host_keys`: a file or several, or
    ``asyncssh.SSHKey`` objects; a missing file is made. `authorized_keys`: a file in
    OpenSSH's format, read again when it changes (until it exists nobody gets in), or an
    ``asyncssh.SSHAuthorizedKeys``.
    Password and keyboard-interactive logins are off unless `server_factory` allows them.
    `algorithms` is ``COMPATIBLE`` or ``STRICT``; `limits` hold per worker. `notice` is the
    line every session gets when the server drains (empty: none). `options` go to
    ``asyncssh.SSHServerConnectionOptions`` and override everything above.

    Raises ImportError when asyncssh is missing; ``start`` raises ValueError for keys that
    cannot be used, or when nobody would be asked for any.
    """

    protocol = "ssh"

    def __init__(
        self, server_factory: Callable[[], Any] | None = None,
        process_factory: Callable[[Any], Any] | None = None, *,
        host_keys: Any = DEFAULT_PATH, authorized_keys: Any = None,
        algorithms: Algorithms = COMPATIBLE, limits: Limits | None = None,
        notice: str = NOTICE, **options: Any,
    ) -> None:
        _require_asyncssh()
        self._server_factory = server_factory
        self._process_factory = process_factory
        self._host_keys = host_keys
        self._authorized_keys = authorized_keys
        self._algorithms = algorithms
        self._notice = notice
        self._extra = options
        self.limits = limits or Limits()
        self.draining = False
        self._deadline = math.inf
        self.name = "ssh"
        self.logger = logging.getLogger("apihour_ssh")
        self.keys_file: AuthorizedKeysFile | None = None
        self.options: Any = None
        self._known = KnownNetworks(None, self.logger)
        self._admission = Admission(self.limits, 0.0)
        self._lobby = Lobby(self._admission, 0.0)
        self._greeting = b""
        self._connections: set[HostedConnection] = set()
        self._sessions: set[asyncio.Task[Any]] = set()
        self._counts = {"accepted": 0, "logins": 0, "login_failures": 0, "sessions": 0,
                        "session_errors": 0}
        self._reported: Counter[str] = Counter()
        self._refused_last = ""
        self._reminds = True
        self._sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"SSHServer({self._server_factory or self._process_factory!r})"

    async def start(self, context: Any = None) -> None:
        """Load the keys. Raises ValueError, one line, when the server would be open or mute.

        `context` is an ``apihour.plugins.ServerContext``; without one the defaults hold.
        """
        if context is not None:
            self.name, self.logger = context.name, context.logger
            _quieten("asyncssh")
        loop = asyncio.get_running_loop()
        hardening.quieten()
        self._known = KnownNetworks(self._known_path(), self.logger)
        self._admission = Admission(self.limits, time.monotonic(), self._known)
        self.options = self._make_options()
        self._lobby = Lobby(self._admission, self.options.login_timeout)
        self._greeting = _greeting(self.options)
        self._reminds = _is_first(context)
        self._sweeper = loop.call_later(_SWEEP, self._sweep, loop)

    def _make_options(self) -> Any:
        import asyncssh

        from apihour_ssh._asyncssh import available_kex, with_exit_status

        if self._authorized_keys is None and self._server_factory is None:
            raise ValueError(
                f"server {self.name!r}: {self!r} would have nobody to let in; expected "
                "authorized_keys=FILE, or a server_factory that checks who logs in")
        facts = hardening.options(self._algorithms)
        facts["kex_algs"] = available_kex(self._algorithms.kex)
        if self._server_factory is not None:
            # asyncssh.SSHServer refuses passwords unless the user's class overrides that.
            facts.update(server_factory=self._server_factory, password_auth=True, kbdint_auth=True)
        if self._process_factory is not None:
            facts["process_factory"] = self._run_process
        facts["server_host_keys"] = load_host_keys(self._host_keys)
        facts["authorized_client_keys"] = self._load_authorized_keys()
        facts.update(self._extra)
        facts["sftp_factory"] = with_exit_status(facts.get("sftp_factory"))
        try:
            return asyncssh.SSHServerConnectionOptions(**facts)
        except (TypeError, ValueError) as error:
            raise ValueError(f"server {self.name!r}: {error}") from error

    def _load_authorized_keys(self) -> Any:
        if not isinstance(self._authorized_keys, (str, os.PathLike)):
            return self._authorized_keys
        self.keys_file = AuthorizedKeysFile(self._authorized_keys, self.logger)
        if not self.keys_file.path.exists():
            return self.keys_file.expect()  # it may come later; until then nobody gets in
        return self.keys_file.load()

    def _known_path(self) -> Path | None:
        """Where the networks of earlier logins are kept: beside the keys that are files."""
        for source in (self._host_keys, self._authorized_keys):
            if isinstance(source, (str, os.PathLike)):
                return Path(source).with_name(_KNOWN)
        return None

    # Connections.

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """Return the protocol of one new connection; `conn` is the core's row for it."""
        def address_of(transport: asyncio.Transport) -> str:
            peer = transport.get_extra_info("peername") if conn is None else conn.peer_address
            return _host_of(peer)

        def make(ticket: Ticket) -> HostedConnection:
            from apihour_ssh._asyncssh import HostedConnection

            self._counts["accepted"] += 1
            return HostedConnection(asyncio.get_running_loop(), self, ticket, conn)

        return Arrival(self._lobby, self._greeting, address_of, make, self._note_refused)

    def _note_refused(self, address: str) -> None:
        self._refused_last = address or "unix"

    def connection_opened(self, connection: HostedConnection) -> None:
        """Called by the connection."""
        self._connections.add(connection)

    def connection_logged_in(self, connection: HostedConnection) -> None:
        """Called by the connection."""
        self._admission.log_in(connection.ticket)
        self._known.add(connection.ticket.network)
        self._counts["logins"] += 1
        self.logger.info("server %r: %s: logged in as %r", self.name, connection.address,
                         connection.user)

    def connection_gone(self, connection: HostedConnection) -> None:
        """Called by the connection."""
        self._connections.discard(connection)
        self._admission.leave(connection.ticket)

    def key_offered(self, connection: HostedConnection) -> None:
        """Called by the connection."""
        self._admission.offer(connection.ticket)

    def login_failed(self, connection: HostedConnection) -> None:
        """Called by the connection."""
        self._counts["login_failures"] += 1

    # Sessions.

    async def _run_process(self, process: Any) -> None:
        import asyncssh

        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._sessions.add(task)
        self._counts["sessions"] += 1
        peer = _host_of(process.get_extra_info("peername"))
        try:
            assert self._process_factory is not None
            result = self._process_factory(process)
            if inspect.isawaitable(result):
                await result
        except (asyncssh.DisconnectError, asyncssh.BreakReceived, asyncssh.SignalReceived,
                asyncssh.TerminalSizeChanged, ConnectionError) as error:
            self.logger.debug("server %r: %s: session ended by %r", self.name, peer, error)
            process.exit(1)
        except Exception:
            self._counts["session_errors"] += 1
            self.logger.exception("server %r: %s: session failed", self.name, peer)
            process.exit(1)
        finally:
            self._sessions.discard(task)

    # Time.

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(_SWEEP, self._sweep, loop)
        refused = self._admission.refused - self._reported
        if refused:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.items())
            self.logger.warning("server %r: %d logins refused or ended, the last from %s: %s",
                                self.name, refused.total(), self._refused_last, reasons)
            self._reported = self._admission.refused.copy()
        if self.keys_file is not None and self._reminds:
            self.keys_file.remind()
        if not self.limits.idle:
            return
        for connection in list(self._connections):
            if connection.logged_in_at is None:
                continue  # asyncssh's login_timeout counts
            if loop.time() - connection.touched > self.limits.idle:
                connection.end(f"Idle for {self.limits.idle:g} s")

    async def drain(self, deadline: float) -> None:
        """Tell every session; return when the last connection is gone.

        A connection that its client keeps is disconnected in a pause between its sessions,
        and its sessions are served until then.
        `deadline` is a time of ``loop.time()``: at it, return with connections left.
        """
        loop = asyncio.get_running_loop()
        self.draining, self._deadline = True, deadline
        while self._connections:
            for connection in list(self._connections):
                self._goodbye(connection)
            remaining = deadline - loop.time()
            if remaining <= 0:
                return
            await asyncio.sleep(min(_POLL, remaining))

    def _goodbye(self, connection: HostedConnection) -> None:
        """Tell the sessions of a connection, or part from it if it has none and it is time."""
        loop = asyncio.get_running_loop()
        if connection.logged_in_at is None:
            return
        if connection.has_channels():
            if self._notice:
                connection.notify(self._notice)
        elif self._deadline - loop.time() < _LAST_MOMENTS:
            loop.call_soon(self._part, connection, connection.sessions_opened)
        elif connection.parting.is_time(time.monotonic()):
            loop.call_later(_BREATH, self._part, connection, connection.sessions_opened)

    def _part(self, connection: HostedConnection, sessions: int) -> None:
        if connection not in self._connections or connection.has_channels():
            return
        if connection.sessions_opened == sessions:
            connection.end(_GOODBYE)

    def connection_emptied(self, connection: HostedConnection) -> None:
        """Called by the connection: its last session has ended."""
        if self.draining and connection in self._connections:
            asyncio.get_running_loop().call_later(
                connection.parting.wait, self._goodbye, connection)
            self._goodbye(connection)

    async def stop(self) -> None:
        """Disconnect what is left, with a reason, and cancel the sessions."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._lobby.close()
        for connection in list(self._connections):
            connection.end(_GOODBYE)
        tasks = list(self._sessions)
        for task in tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + _STOP
        while self._connections:
            if loop.time() >= until:
                break
            await asyncio.sleep(0.01)  # asyncssh aborts its transport in the next turn
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP)

    def statistics(self) -> Mapping[str, Any]:
        """Counters since start; ``refused`` by reason; ``connections``, ``starting`` now."""
        return {
            **self._counts,
            "connections": len(self._connections),
            "starting": self._admission.starting,
            "open_sessions": sum(len(c.open_sessions()) for c in self._connections),
            "refused": dict(self._admission.refused),
        }


def _is_first(context: Any) -> bool:
    """Whether this worker says what holds for all of them: the first of several, or the only."""
    worker = getattr(getattr(context, "container", None), "worker", None)
    return bool(getattr(worker, "slot", 1) == 1)


def _greeting(options: Any) -> bytes:
    from apihour_ssh._asyncssh import greeting

    return greeting(options)


def _host_of(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _require_asyncssh() -> None:
    try:
        import asyncssh  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"SSH is served by asyncssh, which cannot be imported ({error}): pip install asyncssh"
        ) from error


def _quieten(name: str) -> None:
    """Hosted, a library's lines per connection are no news: strangers would fill the log."""
    if logging.getLogger(name).level == logging.NOTSET:
        logging.getLogger(name).setLevel(logging.WARNING)
