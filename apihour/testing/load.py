"""A load that counts the fate of every request, over raw sockets.

Rules:

- Nothing is retried and nothing is smoothed over: what a request met is what is counted.
- A client behaves as good clients do: it looks whether an idle connection was closed before
  it uses it again, obeys ``Connection: close``, and answers a WebSocket's close frame.
- It runs in a thread with a loop of its own, while the test does things to the daemon.

======================  ====================================================================
``keep-alive``          HTTP, requests one after another on each connection
``connection``          HTTP, a connection per request
``connect-wait``        HTTP, connect, stay silent for `wait` seconds, then ask; a connection each
``websocket``           text messages on each WebSocket, each echoed
``tcp``                 a connection per exchange: half a message, `wait`, the rest, its echo
``tcp-session``         messages one after another on each connection, each echoed
======================  ====================================================================
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from apihour.testing.clients import CLIENTS
from apihour.testing.raw import Closed, Fate, RawClient, Refused

__all__ = ["Failure", "Load", "Report"]

_FAILURES = 1000  # kept in full; the counts go on
_HTTP = "a status below 400"
# What the kinds that ask for a path expect.
_BY_PATH = {"keep-alive": _HTTP, "connection": _HTTP, "connect-wait": _HTTP,
            "websocket": "status 101 and echoes"}
_POLL = 0.01  # seconds between two looks at a counter
_PAUSE = 0.05  # seconds before a client goes on after a failure


@dataclass(frozen=True)
class Failure:
    """One request that was not answered well.

    `at` and `connected` are times of ``time.monotonic()``, `local` is the client's own
    address, by which the server knew the connection, `answered` counts the requests that
    had been answered on it.
    """

    fate: Fate
    at: float
    connected: float
    local: str
    answered: int
    detail: str


@dataclass(frozen=True)
class Report:
    """The fates of all requests so far; latencies in seconds."""

    kind: str
    ok: int
    refused: int
    reset: int
    eof: int
    partial: int
    timeout: int
    error_5xx: int
    unexpected: int
    told: int
    """Not answered, but the server had said goodbye first (a WebSocket's 1001 or 1012)."""
    connections: int
    failures: tuple[Failure, ...]
    latencies: array[float]

    @property
    def lost(self) -> int:
        """Requests that met anything but their answer or a goodbye."""
        return (self.refused + self.reset + self.eof + self.partial + self.timeout
                + self.error_5xx + self.unexpected)

    @property
    def total(self) -> int:
        return self.ok + self.lost + self.told

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the answered requests do not exceed; 0 for none."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0

    def __str__(self) -> str:
        counts = {fate.value: getattr(self, fate.value) for fate in Fate}
        shown = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        first = "".join(f"\n  {failure}" for failure in self.failures[:10])
        return f"{self.kind}: {shown or 'nothing'} of {self.total}{first}"


class Load:
    """Clients that ask again and again, for a ``with`` statement.

    `address` is what :meth:`Daemon.address` returns; `connections` how many clients there
    are; `think` the seconds between two requests of one client, or a range of them; `wait`
    the seconds of silence that some kinds have; `timeout` the seconds an answer may take;
    `path` what HTTP and WebSocket clients ask for; `seed` that of the thinking; `tls` the
    context of clients that speak TLS.
    """

    def __init__(
        self, kind: str, address: str, *, connections: int = 8,
        think: float | tuple[float, float] = 0.0, wait: float = 0.02, timeout: float = 10.0,
        path: str = "/", seed: int | None = None, tls: ssl.SSLContext | None = None,
    ) -> None:
        if kind not in CLIENTS:
            raise ValueError(f"load kind {kind!r}: expected one of {', '.join(CLIENTS)}")
        self.kind = kind
        self.address = address
        self.path = path
        self.tls = tls
        self.wait = wait
        self.timeout = timeout
        self.think = think if isinstance(think, tuple) else (think, think)
        self.connections = connections
        self.opened = 0
        self._random = random.Random(seed)
        self._counts: Counter[Fate] = Counter()
        self._failures: list[Failure] = []
        self._latencies = array("d")
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"load {kind}")

    # -- from the test's thread ------------------------------------------------------------

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> Report:
        """Let every client finish its request, then end them. Raises what a client raised."""
        self._stopping.set()
        self._thread.join(self.timeout + self.think[1] + 10.0)
        if self._thread.is_alive():
            raise TimeoutError(f"load {self.kind}: its clients do not end")
        if self._error is not None:
            raise self._error
        return self.report

    @property
    def report(self) -> Report:
        """What has been counted so far."""
        counts = {fate.value: self._counts[fate] for fate in Fate}
        return Report(kind=self.kind, connections=self.opened, failures=tuple(self._failures),
                      latencies=array("d", self._latencies), **counts)

    def wait_answers(self, count: int, timeout: float = 30.0) -> None:
        """Wait until that many more requests were answered.

        Raises AssertionError when they were not in time, or at once when the first answer was
        one that no repetition mends: a path that is not there, another protocol.
        """
        wanted = self._counts[Fate.OK] + count
        deadline = time.monotonic() + timeout
        while self._counts[Fate.OK] < wanted:
            self._refuse_nonsense()
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise AssertionError(f"waited in vain for {count} answers: {self.report}")
            time.sleep(_POLL)

    def _refuse_nonsense(self) -> None:
        """Fail when nothing was ever answered well, and something was answered wrongly."""
        if self._counts[Fate.OK] or not self._counts[Fate.UNEXPECTED]:
            return
        first = next((one for one in self._failures if one.fate is Fate.UNEXPECTED), None)
        if first is None:
            return  # it is being counted just now
        asked = f"GET {self.path} on " if self.kind in _BY_PATH else ""
        raise AssertionError(f"load {self.kind}: {asked}{self.address}: {first.detail}; "
                             f"expected {_BY_PATH.get(self.kind, 'the echo of what was sent')}")

    # -- in its own thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._clients())
        except BaseException as error:
            self._error = error

    async def _clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.connections):
                group.create_task(self._client())

    async def _client(self) -> None:
        client: RawClient = CLIENTS[self.kind](self.address, self.path, self.wait, self.tls)
        try:
            while not self._stopping.is_set():
                if await self._request(client) is not Fate.OK:
                    await asyncio.sleep(_PAUSE)
                if self.think[1]:
                    await client.idle(self._random.uniform(*self.think))
        finally:
            await client.leave()

    async def _request(self, client: RawClient) -> Fate:
        began = time.perf_counter()
        fate, detail = await self._attempt(client)
        self._counts[fate] += 1
        self.opened += client.take_opened()
        if fate is Fate.OK:
            self._latencies.append(time.perf_counter() - began)
            return fate
        if fate is not Fate.TOLD and len(self._failures) < _FAILURES:
            self._failures.append(Failure(
                fate, time.monotonic(), client.connected, client.local, client.answered,
                detail))
        client.drop()
        return fate

    async def _attempt(self, client: RawClient) -> tuple[Fate, str]:
        try:
            async with asyncio.timeout(self.timeout):
                return await client.ask(), ""
        except TimeoutError:
            return Fate.TIMEOUT, f"no answer within {self.timeout:g} s"
        except Refused as error:
            return Fate.REFUSED, str(error)
        except Closed as error:
            return error.fate, str(error)
        except ConnectionError as error:
            fate = Fate.PARTIAL if client.is_partial else Fate.RESET
            return fate, os.strerror(error.errno or 0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed: the load should cost as little as it can."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
