"""The network shell's start: its keys, its settings, and what the operator must know of them.

Imported by :mod:`apihour_console.faces.network` only, because this needs asyncssh.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Sequence
from pathlib import Path

from apihour.bind.bans import Bans
from apihour.version import __version__
from apihour_console.calls.call import Identity
from apihour_console.faces.shell_host import ShellHost
from apihour_console.faces.ssh import ServerSettings, ShellServer
from apihour_console.fleet.fleet import Fleet
from apihour_console.keys.directory import KeyDirectory, Prepared, prepare
from apihour_console.shell.audit import AuditLog
from apihour_console.shell.providers import sessions_provider

__all__ = ["start"]


def start(
    console: ShellHost, fleet: Fleet, audit: AuditLog, sockets: Sequence[socket.socket]
) -> ShellServer:
    """Serve the shell on those listening sockets; whatever keeps it off is said in the log.

    Raises ConfigurationError when an option is none.
    """
    settings, options = console.settings, console.settings.options
    shell = ServerSettings(
        name=settings.name, greeting=_Greeting(settings.name), history=console.state,
        strict=bool(options.get("strict", settings.strict)),
        login_timeout=float(options.get("login_timeout", 20.0)),
        idle_timeout=float(options.get("idle_timeout", 1800.0)), limits=settings.limits(),
    )
    keys = KeyDirectory(console.keys)
    prepared = _prepare(console, keys, sockets)
    server = ShellServer(fleet, audit, keys, shell, console.logger)
    bans = Bans(console.runtime.bans, console.logger)
    server.is_banned, fleet.refused_bans = bans.refuses_now, lambda: bans.refused
    if prepared.host_key is not None:
        try:
            server.configure(prepared.host_key, prepared.authorized)
        except ValueError as error:  # whoever connects is refused: nobody else would
            console.logger.error("shell: network shell off: %s", error)
    fleet.providers["sessions"] = sessions_provider(server)
    for sock in sockets:
        server.listen(sock)
    if sockets:
        server.watch()
    return server


def _prepare(
    console: ShellHost, keys: KeyDirectory, sockets: Sequence[socket.socket]
) -> Prepared:
    """Get the keys ready, and say what the operator must know."""
    logger = console.logger
    address = _address(sockets[0]) if sockets else ("127.0.0.1", 0)
    terminal = console.settings.terminal
    # Started from a terminal it has no socket when its address is taken: the arbiter says that.
    prepared = prepare(
        keys, terminal=terminal, host=address[0],
        root=os.geteuid() == 0, home=_home(console), port=address[1],
    ) if sockets or not (terminal or keys.authorized.exists()) else Prepared()
    for note in prepared.notes:
        logger.info("shell: %s", note)
    if prepared.off:
        # Who has no socket gets one of the arbiter, as soon as there is a key.
        logger.warning("shell: %s", prepared.off)
    for sock in sockets if prepared.host_key is not None else ():
        host, port = _address(sock)
        count = len(prepared.authorized.keys)
        key = f"-i {keys.admin_key.absolute()} " if keys.admin_key.exists() else ""
        logger.info("shell: ssh %sadmin@%s -p %d (%d key%s)", key, host, port, count,
                    "" if count == 1 else "s")
    return prepared


def _home(console: ShellHost) -> Path | None:
    given = console.settings.options.get("home")
    if given:
        return Path(given)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def _address(sock: socket.socket) -> tuple[str, int]:
    """What a client on this machine connects to."""
    address = sock.getsockname()
    if not isinstance(address, tuple):
        return str(address), 0
    host = str(address[0])
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(address[1])


class _Greeting:
    """The first line of an interactive session."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, identity: Identity) -> str:
        return (
            f"{self._name}, apihour {__version__}: {identity.name} is {identity.role}; "
            "help lists the commands, Ctrl-D leaves"
        )
