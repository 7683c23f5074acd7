"""A body that its endpoint takes as it comes: ``stream_body=True`` on a route.

Rules:

- The endpoint starts when the head is complete. What it does not ask for is kept, up to a
  limit; then nothing more is read, so that a fast client cannot grow our memory.
- ``100 Continue`` is sent when it first asks (RFC 9110 10.1.1), and not when it never does.
- A body that is too long, too slow or malformed is an HTTPError of whoever reads it; one whose
  client has left a ClientGone.
- What it leaves is read and discarded, up to a limit; beyond it the answer says that the
  connection closes (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from apihour_http.connection.bodies import begin_body
from apihour_http.direct import log_request
from apihour_http.errors import BadRequest, ClientGone, HTTPError
from apihour_http.head import EXPECT, UPGRADE
from apihour_http.mapping import Form
from apihour_http.request import Request
from apihour_http.side import Side

__all__ = ["StreamedRequest", "Upload", "begin_upload"]

# Bytes of a body that are kept for an endpoint that does not ask for them.
_MOST_KEPT = 65536
# The rest of a body (bytes) that is read for nobody, so that its connection stays open.
_DISCARDED = 1 << 20
_SET = ("arrived", "body", "endpoint", "keep", "lane", "match_info", "modern", "plain",
        "raw_headers", "target", "verb")


class StreamedRequest(Request):
    """A request whose body is on its way."""

    __slots__ = ("upload",)
    upload: Upload | None
    """None once it is answered without having been read."""

    @property
    def body_exists(self) -> bool:
        """Whether a body was sent."""
        return True

    can_read_body = body_exists

    def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it comes; all of it where it was read before.

        Raises RuntimeError where it was taken piece by piece.
        """
        upload = self._coming()
        return super().stream() if upload.is_kept else upload.pieces()

    async def read(self) -> bytes:
        """The body, once all of it has come. Raises RuntimeError as :meth:`stream` does."""
        upload = self._coming()
        if not upload.is_kept:
            self.body = b"".join([piece async for piece in upload.pieces()])
            upload.is_kept = True
        return self.body

    def _coming(self) -> Upload:
        """What brings the body, where nobody has taken it."""
        upload = self.upload
        if upload is None:
            raise RuntimeError(f"{self!r}: it was answered before its body was read")
        if upload.is_taken and not upload.is_kept:
            raise RuntimeError(f"{self!r}: its body was taken piece by piece already")
        return upload

    async def text(self) -> str:
        """The body as text. Raises HTTPError 415 or 400 when it is none."""
        await self.read()
        return await super().text()

    async def post(self, **limits: Any) -> Form:
        """The fields of a form; see :meth:`Request.post`."""
        if not self.is_multipart():
            await self.read()
        return await super().post(**limits)


class Upload(Side):
    """One request with such a body: what stands in for the application's exchange and side."""

    __slots__ = ("_expects", "_gone", "_kept", "_most", "_parts", "_size", "_task", "_waiter",
                 "answered", "failure", "is_complete", "is_kept", "is_taken", "keep", "left",
                 "request")
    has_body = True
    websocket = False

    def __init__(self, request: Any, expects: bool) -> None:
        super().__init__(request.lane)
        self.request: Any = StreamedRequest.__new__(StreamedRequest)
        made = self.request
        for name in _SET:
            setattr(made, name, getattr(request, name))
        made.upload = self
        self.keep = bool(request.keep)
        self.left = 0
        self.answered = self.is_complete = self.is_taken = self.is_kept = False
        self.failure: HTTPError | None = None
        self._expects = expects
        self._gone = False
        self._most: int = request.endpoint.max_body
        self._parts: list[bytes] = []
        self._kept = self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None

    @property
    def arrived(self) -> float:
        """When it came; monotonic time."""
        return float(self.request.arrived)

    @property
    def hosted(self) -> Upload:
        """Who runs it."""
        return self

    running = hosted

    # -- what the connection tells of the message

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._expects = False
        self.left -= len(piece)
        if self.answered or self.failure is not None or not piece:
            return
        self._size += len(piece)
        if self._size > self._most:
            self.lane.pause_payload()
            self.fail(too_large(self._most))
            return
        self._parts.append(piece)
        self._kept += len(piece)
        if self._kept > _MOST_KEPT:
            self.lane.pause_payload()
        self._wake()

    def complete(self) -> None:
        """The message has ended."""
        self.is_complete = True
        self._wake()

    def fail(self, error: HTTPError) -> None:
        """The message is broken: whoever reads it is told."""
        self.keep = False
        self.failure = error
        self._parts.clear()
        self._wake()

    def abandon(self) -> None:
        """It is answered: what is still to come is for nobody."""
        self.answered = True
        self._parts.clear()
        self.lane.resume_payload()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._gone = True
        self._wake()
        if self._task is not None and self.lane.service.options.cancel_on_disconnect:
            self._task.cancel()

    def must_know_of_end(self) -> bool:
        """A client that sends no more is gone, unless all of its body has come."""
        return not self.is_complete

    # -- what the endpoint asks

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body piece by piece; raises HTTPError, or ClientGone, where it breaks off."""
        self.is_taken = True
        while piece := await self._next():
            yield piece

    async def _next(self) -> bytes:
        while not self._parts:
            if self.failure is not None:
                raise self.failure
            if self.is_complete:
                return b""
            if self._gone:
                raise ClientGone("the client has left before its body was whole")
            if self._expects:
                self._expects = False
                self.lane.send_continue()
            self._waiter = self.lane.loop.create_future()
            await self._waiter
        piece = b"".join(self._parts)
        self._parts.clear()
        self._kept = 0
        self.lane.resume_payload()
        return piece

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- its run

    async def serve(self, exchange: Any) -> None:
        """Run the endpoint, and answer."""
        lane = self.lane
        self._task = asyncio.current_task()
        self.take()
        try:
            result = await self._result()
            if not self.is_complete or not self.keep:
                self._say_whether_it_stays()
            more = lane.answer(self.request, result)
            if more is not None:
                await more
        finally:
            self._task = None
            self.give_back()
            lane.answers.upload_done(self)
            # They have each other: without the cycle both are freed here.
            if self.is_complete or self._gone:
                self.request = None
            else:  # the rest is for nobody
                self.request.upload = None

    async def _result(self) -> Any:
        request = self.request
        try:
            return await request.endpoint.call(request)
        except asyncio.CancelledError:
            self.lane.abort()
            raise
        except Exception as error:
            if self._gone and isinstance(error, ClientGone):
                return None  # nobody is there to be told
            return self.lane.service.failed(request, error)

    def _say_whether_it_stays(self) -> None:
        """Close after the answer where too much of the body may be to come.

        A client that waits to be asked may send its body after another answer, or leave it
        (RFC 9110 10.1.1): its next request could be taken for that body.
        """
        if self.failure is not None or self._expects or not 0 <= self.left <= _DISCARDED:
            self.keep = self.request.keep = self.request.plain = False

    # -- for those who look

    def route(self) -> str:
        """The route."""
        return str(self.request.endpoint.route())

    def named(self) -> tuple[str, str]:
        """Method and target."""
        return self.request.method, self.request.path_qs

    def client(self) -> Any:
        """Who sent it, where a proxy says so."""
        return self.lane.client(self.request.raw_headers)

    def log(self, log: Any, status: int, size: int, now: float) -> None:
        """Enter it into the access log."""
        log_request(self.lane, self.request, status, size, now)


def begin_upload(intake: Any, request: Any, seen: int) -> None:
    """Take a head whose endpoint takes its body as it comes. Raises BadRequest.

    Without a body the request is one like any.
    """
    expects = bool(seen & EXPECT) and request.modern
    intake.pending = upload = Upload(request, expects)
    length = begin_body(intake, request.raw_headers, seen, request.modern)
    if not length:
        intake.pending = request
        return
    upload.left = length
    most = request.endpoint.max_body
    if length > most:
        intake.pending = request
        intake.lane.discard_up_to(length)
        raise too_large(most)
    lane = intake.lane
    if lane.ready:
        # It starts when this read is parsed, with as much as came of the body.
        lane.ready = False
        intake.claimed = upload
    else:
        lane.answers.queue.append(upload)
    if seen & UPGRADE and intake.parser.should_upgrade():
        intake.ignore_upgrade(length)


def too_large(most: int) -> BadRequest:
    """What a body over `most` bytes is answered with."""
    return BadRequest(f"a body over {most} bytes", 413)
