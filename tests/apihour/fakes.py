"""A worker that is none: a loop in a thread of its own, with a table, a row and an agent."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from apihour.ipc.runtime import Runtime
from apihour.ipc.scoreboard import Scoreboard, WorkerState
from apihour.ipc.wire import Framer, encode
from apihour.ops.agent import Agent
from apihour.ops.ids import Ids
from apihour.ops.sampler import CpuSampler
from apihour.worker.connections import ConnectionTable


class FakeServer:
    """A server with figures and nothing behind them."""

    protocol = "tcp"

    def statistics(self) -> dict[str, Any]:
        return {
            "requests": 3, "responses_5xx": 1,
            "slow": [{"time": 1.0, "seconds": 2.0, "what": "GET /slow"}],
            "latency": {"bounds": [0.1, 1.0], "counts": [2, 1, 0], "sum": 0.4},
        }


class FakeWorker:
    """The shape of a worker, with its loop in another thread so that tests may block it."""

    def __init__(
        self, runtime: Runtime, container: Any = None, slot: int = 1, arbiter: int = 0,
    ) -> None:
        self.pid = os.getpid()
        self.runtime = runtime
        self.container = container if container is not None else SimpleNamespace(config={})
        self.loop = asyncio.new_event_loop()
        self.log = logging.getLogger("fake")
        self.channel = SimpleNamespace(send=lambda **message: None)
        self.cfg = SimpleNamespace(graceful_timeout=30, settings={}, shell_python=True)
        self.started = self.beat = time.monotonic()
        self.sampler = CpuSampler()
        path = runtime.scoreboard(arbiter or self.pid)
        with open(runtime.path / "claim.lock", "w") as lock:
            # In a daemon only the arbiter claims; fake workers do it each for itself.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                Scoreboard.create(str(path)).close()
            self.scoreboard = Scoreboard.open(str(path))
            self.row = self.scoreboard.claim(slot, 1)
        self.row.pid = self.pid
        self.row.state = WorkerState.SERVING
        self.row.accepting = 1.0
        self.name = self.row.worker
        self.ids = Ids(self.name)
        self.connections = ConnectionTable(self.name, ids=self.ids)
        self.servers = {"echo": SimpleNamespace(
            name="echo", server=FakeServer(), protocol="tcp", accepted=5, refused=1,
            addresses=["tcp://127.0.0.1:9000"], acceptors=[SimpleNamespace(
                is_held=False, is_started=True, door=SimpleNamespace(options="idle=60"))],
        )}
        self._thread = threading.Thread(target=self.run, name="fake-loop", daemon=True)

    def run(self) -> None:
        """Turn the loop until it is stopped."""
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._beat)
        self.loop.run_forever()

    def _beat(self) -> None:
        self.beat = self.row.heartbeat = time.monotonic()
        self.loop.call_later(0.05, self._beat)

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        self.loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def running_agent(path: Path, container: Any = None) -> Iterator[tuple[FakeWorker, Agent]]:
    """A fake worker with an agent that answers."""
    worker = FakeWorker(Runtime(path), container)
    agent = Agent(worker)
    if container is not None:
        agent.adopt(container)
    worker.start()
    agent.start()
    try:
        yield worker, agent
    finally:
        agent.stop()
        worker.stop()


class Caller:
    """A blocking client of the wire."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))
        self.framer = Framer()
        self.inbox: list[dict[str, Any]] = []
        self.number = 0

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, command: str, role: str = "admin", **fields: Any) -> int:
        self.number += 1
        self.sock.sendall(encode({
            "id": self.number, "command": command, "role": role,
            "arguments": fields.pop("arguments", {}), **fields,
        }))
        return self.number

    def receive(self) -> dict[str, Any]:
        while not self.inbox:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.inbox += self.framer.feed(data)
        return self.inbox.pop(0)

    def call(self, command: str, role: str = "admin", **fields: Any) -> Any:
        """The rows of one command, or the error reply."""
        number = self.send(command, role, **fields)
        rows: list[Any] = []
        while True:
            reply = self.receive()
            assert reply["id"] == number
            if "error" in reply:
                return reply
            if reply.get("end"):
                return rows
            rows += reply["item"]


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true value of `condition`. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not become true within {seconds} s: {condition}")
