"""The template's own side: orders come in, workers go out; see apihour.template.templates."""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from apihour.bind.handing_over import handed_over
from apihour.bind.listeners import Listener
from apihour.books.becoming import become_worker
from apihour.books.books import Books
from apihour.ipc.channel import Channel
from apihour.ipc.private import set_process_title
from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard
from apihour.ipc.signals import fork_blocked
from apihour.plugins import Registry
from apihour.worker.assignment import Assignment
from apihour.worker.process import BLOCKED

__all__ = ["PACKET", "PER_PACKET", "PID", "serve"]

PER_PACKET = 64  # listeners in one packet; the kernel takes 253 descriptors (SCM_MAX_FD)
PACKET = 65536  # bytes of one packet at most
PID = struct.Struct("=q")
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_INT = array.array("i").itemsize


def serve(books: Books, line: socket.socket) -> None:
    """Life of the template: fork on request until the arbiter closes the line."""
    for sig in _TERMINAL:
        signal.signal(sig, signal.SIG_IGN)  # a Ctrl-C is the arbiter's to obey
    books.cfg = books.app.cfg
    books.log.setup(books.cfg)
    set_process_title(f"template {books.cfg.proc_name}")
    _warm(books)
    gc.collect()
    gc.freeze()  # the collector would write into every page, and so unshare it
    while (order := _receive(line)) is not None:
        answer = _fork_twice(partial(_become, books, line, *order))
        for fd in order[1]:
            os.close(fd)
        line.send(PID.pack(answer))


def _warm(books: Books) -> None:
    """Import what every worker would import by itself after the application."""
    Registry.from_entry_points()
    if not books.cfg.no_console:
        importlib.import_module("apihour.ops.agent")
    with contextlib.suppress(ImportError):
        importlib.import_module("uvloop")


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """One order, of as many packets as it takes; None once the arbiter is gone."""
    facts: dict[str, Any] = {"more": True, "listeners": []}
    received: list[int] = []
    while facts["more"]:
        # Not socket.recv_fds(), which forgets its flags.
        space = socket.CMSG_SPACE((PER_PACKET + 2) * _INT)
        data, ancillary, _, _ = line.recvmsg(PACKET, space, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return None
        fds = array.array("i")
        for _, _, passed in ancillary:
            fds.frombytes(passed)
        packet = json.loads(data)
        packet["listeners"] = [*facts["listeners"], *packet["listeners"]]
        facts = packet
        received += fds
    return facts, received


def _fork_twice(run: Callable[[], None]) -> int:
    """Run in a grandchild that is its own parent's no more; its pid, or minus the errno."""
    reading, writing = os.pipe()
    try:
        middle = fork_blocked(BLOCKED)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return -(error.errno or 1)
    if middle == 0:
        try:
            answer = os.fork()
        except OSError as error:
            answer = -(error.errno or 1)
        if answer == 0:
            os.close(reading)
            os.close(writing)
            run()
        os.write(writing, PID.pack(answer))
        os._exit(0)
    os.close(writing)
    # Once it is reaped its child has its new parent.
    os.waitpid(middle, 0)
    data = os.read(reading, PID.size)
    os.close(reading)
    pid: int = PID.unpack(data)[0]
    return pid


def _become(
    books: Books, line: socket.socket, facts: dict[str, Any], fds: list[int]
) -> None:
    """The worker's side of an order; never returns."""
    try:
        line.close()
        hold, channel, *sockets = fds
        if not os.read(hold, 1):
            os._exit(0)  # the arbiter knows nothing of this process
        os.close(hold)
        books.log.reopen_files()  # they may have been rotated since the template opened them
        given = _assignment(books, facts, channel, [
            handed_over(one, fd)
            for one, fd in zip(facts["listeners"], sockets, strict=True)
        ])
    except BaseException:
        books.log.exception("Exception in a worker forked from the template")
        os._exit(1)
    become_worker(books, given, books.cfg)


def _assignment(
    books: Books, facts: dict[str, Any], channel: int, listeners: list[Listener]
) -> Assignment:
    scoreboard = Scoreboard.open(facts["scoreboard"])
    runtime = Runtime(facts["runtime"])
    runtime.join()  # the template was forked before there was a lock to inherit
    return Assignment(
        age=facts["age"], ppid=books.pid, slot=facts["slot"], generation=facts["generation"],
        start=facts["start"], sockets=listeners, channel=Channel(socket.socket(fileno=channel)),
        row=scoreboard.rows[facts["row"]], scoreboard=scoreboard, runtime=runtime)
