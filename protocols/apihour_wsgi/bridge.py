"""A WSGI application as an ASGI application: what all its calls share.

Rules:

- `calls` counts what was given to the threads and has not come back, also for clients that have
  left: a thread cannot be told to stop.
- A call has its task's context variables (a copy, as a task would have).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import FileWrapper

from apihour_wsgi.body import Errors, open_body
from apihour_wsgi.environ import make_environ
from apihour_wsgi.invocation import Abandoned, Invocation

__all__ = ["Bridge"]

_FULL = ({"type": "http.response.start", "status": 503, "headers": [
             (b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]},
         {"type": "http.response.body", "body": b"too many requests wait for a thread\n"})


class Bridge:
    """Runs `app` in `threads` threads; `backlog` calls may wait for one."""

    def __init__(self, app: Any, threads: int, backlog: int, buffer: int, root: str) -> None:
        self.threads = threads
        self.calls = 0
        self._app = app
        self._most = threads + backlog
        self._buffer = buffer
        self._root = root
        self._pool: ThreadPoolExecutor | None = None
        self._common: dict[str, Any] = {}
        self._logger = logging.getLogger("apihour_wsgi")

    def start(self, container: Any, logger: logging.Logger) -> None:
        """Get ready; threads are made when they are first needed."""
        self._logger = logger
        self._pool = ThreadPoolExecutor(self.threads, "apihour_wsgi")
        self._common = {
            "wsgi.version": (1, 0), "wsgi.errors": Errors(logger), "wsgi.multithread": True,
            "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper, "SERVER_SOFTWARE": "apihour",
            "apihour.container": container,
        }

    def stop(self) -> None:
        """End the threads; calls that have not begun are cancelled."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close"})  # answered 403: WSGI has no WebSockets
            return
        start, more = await self._first(scope, receive)
        if start is None:
            return
        if self.calls >= self._most:
            for message in _FULL:
                await send(message)
            return
        loop = asyncio.get_running_loop()
        call = Invocation(loop, send, receive)
        environ = make_environ(scope, self._root, self._common)
        environ["wsgi.input"] = open_body(start, more, call.ask)
        try:
            for message in await self._hand_over(loop, call, environ):
                await send(message)
        except Abandoned as error:
            self._logger.debug("%s %r: %s", scope["method"], scope["path"], error)
        finally:
            call.leave()

    async def _first(self, scope: Any, receive: Any) -> tuple[bytes | None, bool]:
        """The first of the body, and whether there is more; None when the client has left."""
        # On HTTP/2 a body needs no field to be there.
        if scope["http_version"] != "2" and not any(
            name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]
        ):
            return b"", False
        parts, size, more = [], 0, True
        while more and size <= self._buffer:
            message = await receive()
            if message["type"] != "http.request":
                return None, False
            parts.append(message["body"])
            size += len(message["body"])
            more = message["more_body"]
        return b"".join(parts), more

    def _hand_over(
        self, loop: Any, call: Invocation, environ: dict[str, Any],
    ) -> asyncio.Future[Any]:
        """Have a thread run the call; what it leaves to be sent is the future's result."""
        answer: asyncio.Future[Any] = loop.create_future()

        def ready(messages: list[Any]) -> None:
            if not answer.done():
                answer.set_result(messages)

        def ended(messages: list[Any], error: Exception | None) -> None:
            self.calls -= 1
            if not answer.done():
                if error is None:
                    answer.set_result(messages)
                else:
                    answer.set_exception(error)
            elif error is not None and not isinstance(error, Abandoned):
                self._logger.error("the WSGI application failed on %s %s, after its answer",
                                   environ["REQUEST_METHOD"], ascii(environ["RAW_URI"]),
                                   exc_info=error)

        assert self._pool is not None
        self._pool.submit(contextvars.copy_context().run, call.run, self._app, environ, ready,
                          ended)
        self.calls += 1
        return answer
