"""What of a connection every request touches: in Python, where the extension is not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from apihour_http.connection.states import State
from apihour_http.direct import answer_any, check_slow, log_request
from apihour_http.request import Request
from apihour_http.statistics import FAST

if TYPE_CHECKING:
    from apihour_http.connection.answers import Answers
    from apihour_http.connection.heads import Intake
    from apihour_http.service import Service

__all__ = ["Lane"]


class Lane:
    """The part of a connection that a request costs something."""

    __slots__ = (
        "answers", "between", "conn", "idle_since", "intake", "plan", "queue", "ready", "service",
        "sink", "state", "transport", "write", "write_paused",
    )
    service: Service
    plan: Any
    """The same for the extension, None without it."""
    conn: Any
    transport: asyncio.Transport | None
    write: Callable[[bytes], None]
    state: State
    intake: Intake
    between: list[bool]
    """Not empty while the parser stands before a message."""
    answers: Answers
    queue: deque[Any]
    ready: bool
    """Whether a request may start the moment it is read: see the table of states."""
    write_paused: bool
    sink: Callable[[bytes], Any] | None
    """Who takes what follows an upgrade; None while something is left over, and without one."""
    idle_since: float

    def data_received(self, data: bytes) -> None:
        """Take a read."""
        self.take(data)

    def take(self, data: bytes) -> None:
        """Take a read the slow way: by the parser."""
        raise NotImplementedError

    def answer(self, request: Request, result: Any) -> Coroutine[Any, Any, None] | None:
        """Answer with `result`; what sends the rest of it is returned, if there is a rest."""
        service = self.service
        usual = type(result) is dict or (
            type(result) is list and result and type(result[0]) is dict)
        if not usual or not request.plain or not service.now.quick:
            return answer_any(self, request, result)
        try:
            body = service.dumps(result)
        except Exception:
            # The general way tries harder, and says what is wrong.
            return answer_any(self, request, result)
        if self.transport is None:
            return None
        size = len(body)
        head = f"{service.now.json_head}{size}\r\n\r\n"
        self.write((head + body).encode() if isinstance(body, str) else head.encode() + body)
        now = self.idle_since = monotonic()
        seconds = now - request.arrived
        counters = service.counters
        counters.seconds += seconds
        if seconds < FAST:
            counters.fast += 1
        else:
            counters.count(seconds)
            if seconds > service.slow:
                check_slow(self, request, now)
        self.conn.state = "idle"
        if service.log is not None:
            log_request(self, request, 200, size, now)
        return None
