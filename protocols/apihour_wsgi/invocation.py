"""One call of a WSGI application, in its thread, and what it answers (PEP 3333).

Rules:

- The thread waits for the loop only for what is not whole: an answer in one piece, or a list, is
  handed over as the call ends.
- What an application yields is sent before it is asked for more.
- Once the request is over for its client, the thread's next word to the loop raises Abandoned.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any

__all__ = ["Abandoned", "Invocation"]

Sent = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
})


class Abandoned(ConnectionError):
    """The client has left, or the server has ended: nobody waits for the answer."""


class Invocation:
    """The call of `app` with `environ`; `send` and `receive` are ASGI's, of this request.

    `ended` is called in the loop, with the messages still to be sent and the error, if there
    was one, when the thread has done its work; `ready` with messages when all are known but
    the application goes on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Any, receive: Any) -> None:
        self._loop = loop
        self._send = send
        self._receive = receive
        self._lock = threading.Lock()
        self._asked: concurrent.futures.Future[Any] | None = None
        self._gone = False
        self._start: Sent | None = None
        self._declared = -1  # its Content-Length
        self._begun = False  # whether something was sent

    def run(
        self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any],
        ready: Callable[[list[Sent]], None],
        ended: Callable[[list[Sent], Exception | None], None],
    ) -> None:
        """Call `app`; this is what the thread does."""
        rest: list[Sent] = []
        error: Exception | None = None
        try:
            rest = self._call(app, environ, ready)
        except BaseException as caught:
            error = _carried(caught)
        try:
            self._loop.call_soon_threadsafe(ended, rest, error)
        except RuntimeError:  # the loop is closed: nobody is there to hear it
            return

    def leave(self) -> None:
        """Nobody waits any longer; called in the loop."""
        with self._lock:
            self._gone = True
            if self._asked is not None:
                self._asked.cancel()

    def ask(self) -> Any:
        """The next of the body, from the thread."""
        return self._wait(self._receive())

    # -- what the application is given

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """Take status and headers; returns ``write``. Raises as PEP 3333 says."""
        if exc_info is not None:
            if self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._start is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        code, _, _ = status.partition(" ")
        if not (code.isdigit() and len(code) == 3):
            raise AssertionError(f"start_response: status {status!r}: expected like '200 OK'")
        self._declared = -1
        fields = []
        for name, value in headers:
            lowered = name.lower()
            if lowered in _HOP_BY_HOP:  # the connection's own business
                continue
            if lowered == "content-length":
                self._declared = int(value)
            fields.append((name.encode("latin-1"), value.encode("latin-1")))
        self._start = {"type": "http.response.start", "status": int(code), "headers": fields}
        return self._write

    # -- what it answers

    def _call(self, app: Any, environ: dict[str, Any], ready: Any) -> list[Sent]:
        result = app(environ, self.start_response)
        try:
            if isinstance(result, (list, tuple)):
                return self._last(b"".join(result))
            return self._follow(result, ready)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _follow(self, result: Iterable[bytes], ready: Any) -> list[Sent]:
        """Send what is yielded, piece by piece."""
        handed = False
        for piece in result:
            if not piece:
                continue
            if handed:
                raise AssertionError(f"more than Content-Length: {self._declared} was yielded")
            if not self._begun and len(piece) == self._declared:
                # All of it, although the application may go on.
                self._loop.call_soon_threadsafe(ready, self._last(piece))
                handed = True
            else:
                self._write(piece)
        return [] if handed else self._last(b"")

    def _write(self, piece: bytes) -> None:
        messages = self._messages(piece, more=True)
        self._begun = True
        self._wait(self._all(messages))

    def _last(self, piece: bytes) -> list[Sent]:
        return self._messages(piece, more=False)

    def _messages(self, piece: bytes, more: bool) -> list[Sent]:
        body = {"type": "http.response.body", "body": piece, "more_body": more}
        if self._begun:
            return [body]
        if self._start is None:
            raise AssertionError("the application answered without calling start_response")
        return [self._start, body]

    async def _all(self, messages: list[Sent]) -> None:
        for message in messages:
            await self._send(message)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Have the loop run `coroutine`, and wait for what it returns."""
        with self._lock:
            if self._gone:
                coroutine.close()
                raise Abandoned("the client has left")
            self._asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return self._asked.result()
        except concurrent.futures.CancelledError:
            raise Abandoned("the client has left") from None


def _carried(caught: BaseException) -> Exception:
    """What the loop is told of it: sys.exit() of an application ends no worker.

    And a StopIteration cannot be an answer's (``asyncio.Future.set_exception``).
    """
    if isinstance(caught, Exception) and not isinstance(caught, StopIteration):
        return caught
    error = RuntimeError(f"the application raised {caught!r}")
    error.__cause__ = caught
    return error
