"""Ports for tests that must name one before it is bound, and who listens on one."""

from __future__ import annotations

import glob
import os
import random
import socket
from pathlib import Path

_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
_LISTEN = "0A"  # TCP_LISTEN of the kernel's tcp_states.h
_held: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody has, nor gets until this process ends: by another call, of whatever run,
    by a bind to port 0, or as a client.

    Only who binds it by its number does. It is held by a socket that does not listen, beside which
    servers may bind it: all of them reuse addresses (SO_REUSEADDR of socket(7)).
    """
    with open(_RANGE) as file:
        given = int(file.read().split()[0])
    while True:
        sock = socket.socket()
        try:
            sock.bind(("127.0.0.1", random.randrange(given // 2, given)))
        except OSError:
            sock.close()
            continue
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _held.append(sock)
        port: int = sock.getsockname()[1]
        return port


def listeners_on(port: int) -> dict[int, str]:
    """Who has a listening TCP socket of that port open, as far as we may see: pid, command line."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{rest[5]}]")
    found = {}
    for descriptor in glob.glob("/proc/[0-9]*/fd/*"):  # Path.glob() fails where a process goes
        process = Path(descriptor).parents[1]
        try:
            if os.readlink(descriptor) in sockets:
                words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found[int(process.name)] = b" ".join(words).decode(errors="replace")
        except OSError:  # it is closed by now, or not ours to see
            continue
    return found
