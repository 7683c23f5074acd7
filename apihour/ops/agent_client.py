"""One connection of a console to an agent: what it asked for, and what it is still to get."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from apihour.ipc.peer_socket import PeerConnection
from apihour.ops.commands.context import WorkerView
from apihour.ops.jobs import Job, LoopJob

__all__ = ["AgentClient"]

_BACKLOG = 1 << 20  # bytes unsent to one peer before its commands are paused
_FRAME = 1 << 20  # bytes of a request; the longest carry source typed by an operator


class AgentOfClient(Protocol):
    """The agent, as far as its connections need it."""

    worker: WorkerView
    selector: selectors.BaseSelector

    def dispatch(self, client: AgentClient, message: dict[str, Any]) -> None: ...
    def post(self, job: LoopJob, reply: dict[str, Any]) -> None: ...
    def in_loop(self, function: Callable[[], Any]) -> bool: ...


class AgentClient(PeerConnection):
    """The :class:`apihour.ops.jobs.Peer` of its jobs."""

    def __init__(self, agent: AgentOfClient, sock: socket.socket) -> None:
        super().__init__(sock, _FRAME)
        self.agent = agent
        self.jobs: dict[Any, Job | LoopJob] = {}

    @property
    def is_full(self) -> bool:
        """Whether it reads too slowly for what it gets."""
        return len(self.out) > _BACKLOG

    def ready(self, mask: int) -> None:
        """The selector's callback. Raises OSError, EOFError or FrameError: close it then."""
        if mask & selectors.EVENT_READ:
            for message in self.receive():
                self.agent.dispatch(self, message)
        if mask & selectors.EVENT_WRITE:
            self._send()

    def reply(self, number: Any, **fields: Any) -> None:
        """Send one reply."""
        self.put({"id": number, **fields})
        self._send()

    def post(self, job: LoopJob, reply: dict[str, Any]) -> None:
        """Send one reply, from the loop."""
        self.agent.post(job, reply)

    def in_loop(self, function: Callable[[], Any]) -> bool:
        """See :meth:`apihour.ops.agent.Agent.in_loop`."""
        return self.agent.in_loop(function)

    def create_task(self, main: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Make a task; in the loop only."""
        task: asyncio.Task[None] = self.agent.worker.loop.create_task(main, name=name)
        return task

    def _send(self) -> None:
        try:
            self.flush()
        except OSError:
            self.out.clear()  # it is gone: reading says so, and then it is closed
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
        self.agent.selector.modify(self.sock, events, self.ready)
