"""How the buses of one daemon find each other: each listens, and connects to all others.

Rules:

- A connection carries messages one way, from who connected; what the other end subscribes to, and
  its answers, come back on it. So of two there are two connections, and none has a hub between.
- Each has a socket in one directory, which listens when it gets its name. A newcomer connects to
  all that it finds, and whoever is connected to connects back: no two miss each other.
- A socket that refuses is of a process that is gone, and is removed. The directory is looked at
  each second: it may have vanished, and been made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

from apihour.bus.bus_wire import (
    ANSWER,
    HELLO,
    LOST,
    MARK,
    MESSAGE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    BusWire,
    frame,
    number_of,
    numbered,
    read_message,
)
from apihour.bus.interests import Interests
from apihour.bus.questions import Questions
from apihour.errors import BusError
from apihour.ipc.peer_socket import PeerListener

__all__ = ["Caller", "Mesh", "MeshHost", "Neighbour"]

LOOK = 1.0  # seconds between two looks at the directory
GREETING = 1.0  # seconds that others have to answer, at most, before one goes on without
_MOST = 4096  # neighbours
_NAME = re.compile(r"[0-9a-f]{16}")
_SUBJECTS = 1000  # of messages that a neighbour missed; more are one, of any subject


class MeshHost(Protocol):
    """The bus that a mesh is of."""

    theirs: Interests[Neighbour]
    questions: Questions

    def subscriptions(self) -> list[tuple[str, str]]:
        """Pattern and queue of each that this process has."""

    def arrived(self, caller: Caller, question: int, subject: str, groups: list[str],
                data: bytes) -> None:
        """A message has come."""

    def missed(self, subject: str, number: int) -> None:
        """Messages have not come."""


class Neighbour(BusWire):
    """Another bus, to which this one sends."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        super().__init__()
        self.name = name
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._mesh = mesh
        self._host = mesh.host
        self._lost: dict[str, int] = {}

    def send(self, subject: str, message: bytes) -> bool:
        """Send a message; False when it is dropped, as too much waits already."""
        if not self._lost and self.put(message):
            return True
        if self.is_open:
            key = subject if len(self._lost) < _SUBJECTS or subject in self._lost else ">"
            self._lost[key] = self._lost.get(key, 0) + 1
        return False

    @property
    def is_behind(self) -> bool:
        """Whether what is sent to it is dropped."""
        return bool(self._lost)

    def on_open(self) -> None:
        self.put(frame(HELLO, self._mesh.name.encode()))

    def on_room(self) -> None:
        for subject, number in self._lost.items():
            self.put(numbered(LOST, number, subject.encode()))
        self._lost.clear()

    def on_frame(self, kind: int, body: bytes) -> None:
        if kind == ANSWER:
            self._host.questions.take(*number_of(body))
        elif kind in (SUBSCRIBE, UNSUBSCRIBE):
            queue, _, pattern = body.decode().partition(" ")
            change = self._host.theirs.add if kind == SUBSCRIBE else self._host.theirs.remove
            change(pattern, queue, self)
        elif kind == MARK:
            number, _ = number_of(body)
            if number:
                self.put(numbered(MARK, number))
            elif not self.ready.done():
                self.ready.set_result(None)
        else:
            raise ValueError(f"a frame of kind {kind}")

    def on_lost(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self._host.theirs.forget(self)
        self._host.questions.leave(self)
        self._mesh.gone(self, why)


class Caller(BusWire):
    """Another bus, which sends to this one."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self._mesh = mesh
        self._host = mesh.host
        self._marks: dict[int, asyncio.Future[None]] = {}
        self._is_known = False

    def told(self, kind: int, pattern: str, queue: str) -> asyncio.Future[None]:
        """Tell of a subscription, or of its end; done when all sent before that has come."""
        mark = self._mesh.next_mark()
        done = self._marks[mark] = self._loop.create_future()
        if not self._is_known:  # it will hear of all of them, and not of one twice
            self._marks.pop(mark).set_result(None)
        elif not (self.put(frame(kind, f"{queue} {pattern}".encode()))
                  and self.put(numbered(MARK, mark))):
            self._marks.pop(mark).set_result(None)
            self.abort()  # it reads nothing; when it does, it comes again, and hears all of them
        return done

    def on_frame(self, kind: int, body: bytes) -> None:
        if kind == MESSAGE:
            self._host.arrived(self, *read_message(body))
        elif kind == MARK:
            if (done := self._marks.pop(number_of(body)[0], None)) is not None:
                done.set_result(None)
        elif kind == LOST:
            number, subject = number_of(body)
            self._host.missed(subject.decode(), number)
        elif kind == HELLO and not self._is_known:
            self._greet(body.decode())
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _greet(self, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"a name {name!r:.40}")
        self._is_known = True
        for pattern, queue in self._host.subscriptions():  # all of them, or it misses some
            self.put(frame(SUBSCRIBE, f"{queue} {pattern}".encode()), is_bounded=False)
        self.put(numbered(MARK, 0), is_bounded=False)
        self.flush()
        self._mesh.met(name)

    def on_lost(self, why: str) -> None:
        for done in self._marks.values():
            if not done.done():
                done.set_result(None)
        self._marks.clear()
        self._mesh.left(self, why)


class Mesh:
    """The connections of one bus to the others in `directory`."""

    def __init__(self, directory: Path, host: MeshHost) -> None:
        self.host = host
        self.name = os.urandom(8).hex()
        self.neighbours: dict[str, Neighbour] = {}
        self.callers: set[Caller] = set()
        self._directory = directory
        self._listener: PeerListener | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dialled: set[str] = set()
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._mark = 0
        self._is_closed = False
        self._log = logging.getLogger("gunicorn.error")

    async def open(self) -> None:
        """Listen, and meet whoever is there. Raises BusError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._listen()
            names = self._others()
        except OSError as error:
            raise BusError(f"bus {str(self._directory)!r}: {error.strerror}; expected a directory "
                           "in which sockets can be made") from error
        self._awaited = {name: self._loop.create_future() for name in names}
        await asyncio.gather(*(self._dial(name) for name in names))
        hellos = {self._awaited[name] for name in self.neighbours if name in self._awaited}
        waiting = hellos | {one.ready for one in self.neighbours.values()}
        if waiting:
            await asyncio.wait(waiting, timeout=GREETING)
        self._awaited.clear()
        self._start(self._look_again())

    async def close(self) -> None:
        """Send what waits, and leave."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.sock)
            self._listener.unlink()
            self._listener.close()
        for one in self._wires():
            one.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GREETING):
                while any(one.is_open for one in self._wires()):  # noqa: ASYNC110 - all of them
                    await asyncio.sleep(0.005)
        for one in self._wires():
            one.abort()

    def next_mark(self) -> int:
        """A number that no MARK under way has."""
        self._mark = self._mark % 0xFFFF_FFFF + 1
        return self._mark

    # -- what happens to connections -------------------------------------------------------

    def met(self, name: str) -> None:
        """A bus of that name has connected: connect back."""
        if (waited := self._awaited.pop(name, None)) is not None:
            waited.set_result(None)
        self._start(self._dial(name))

    def gone(self, neighbour: Neighbour, why: str) -> None:
        """Nothing more can be sent to it."""
        if self.neighbours.get(neighbour.name) is neighbour:
            del self.neighbours[neighbour.name]
            self._warn(why)

    def left(self, caller: Caller, why: str) -> None:
        """Nothing more comes from it."""
        if caller in self.callers:
            self.callers.discard(caller)
            self._warn(why)

    def _warn(self, why: str) -> None:
        if why:
            self._log.warning("bus: another worker's connection is lost: %s", why)

    # -- finding each other ----------------------------------------------------------------

    def _listen(self) -> None:
        self._directory.parent.mkdir(mode=0o700, exist_ok=True)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._listener = PeerListener(self._directory / self.name, _MOST)
        self._loop.add_reader(self._listener.sock, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        sock = self._listener.accept(len(self.callers))
        if sock is not None:
            self._start(self._loop.connect_accepted_socket(self._make_caller, sock))

    def _make_caller(self) -> Caller:
        caller = Caller(self)
        self.callers.add(caller)
        return caller

    async def _dial(self, name: str) -> None:
        if name in self.neighbours or name in self._dialled or self._is_closed:
            return
        path = self._directory / name
        self._dialled.add(name)
        try:
            _, neighbour = await self._loop.create_unix_connection(
                lambda: Neighbour(self, name), str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # its process is gone
            return
        except OSError:  # it has just gone, or its backlog is full: the next look finds out
            return
        finally:
            self._dialled.discard(name)
        if neighbour.is_open:
            self.neighbours[name] = neighbour

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self._listener is not None and not self._listener.is_ours():
                    self._loop.remove_reader(self._listener.sock)
                    self._listener.close()
                    self._listener = None
                if self._listener is None:
                    self._listen()
                for name in self._others():
                    await self._dial(name)
            except OSError as error:  # the arbiter makes the runtime directory again
                self._log.warning("bus %r: %s", str(self._directory), error.strerror)

    def _others(self) -> list[str]:
        return [name for name in os.listdir(self._directory)
                if name != self.name and _NAME.fullmatch(name)]

    def _wires(self) -> Iterator[BusWire]:
        yield from list(self.neighbours.values())
        yield from list(self.callers)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
