"""Answers compressed for clients that take it: routes declared with ``compress=True``.

Rules:

- The coding is that of ``codings.py`` which costs least of those that the client takes.
- What is short, compressed already, a part, or no text stays as it is; events do too, each is to
  arrive by itself.
- A large answer is compressed in a thread: the loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from apihour_http.response import Encoded, Live, Response
from apihour_http.routing.codings import Coding, chosen, made_here
from apihour_http.row_set import RowSet
from apihour_http.streaming.stream import Stream

__all__ = ["with_compression"]

# Bytes: shorter answers fit into a packet or two as they are.
_WORTH = 1024
_TEXT = re.compile(r"text/|application/(?:[\w.+-]+\+)?(?:json|xml|javascript|x-ndjson)|image/svg")
_WHOLE = frozenset({200, 201, 202, 203, *range(400, 600)})

_DATA = frozenset({dict, list, RowSet})


class _Head(NamedTuple):
    """The head of JSON in a coding: as a response, and its lines behind the usual two."""

    response: Response
    lines: str


def _head(*fields: tuple[str, str]) -> _Head:
    pairs = [("Vary", "Accept-Encoding"), *fields]
    return _Head(Response(200, [("Content-Type", "application/json"), *pairs]),
                 "".join([f"{name}: {value}\r\n" for name, value in pairs]))


_AS_IT_IS = _head()


def _squeeze(coder: Any, piece: bytes) -> bytes:
    """What leaves of a piece, so that a client can have all of it."""
    return bytes(coder.process(piece) + coder.flush())


def with_compression(call: Callable[[Any], Any], inline: bool) -> Callable[[Any], Any]:
    """Wrap an endpoint's `call`: its answers are compressed where the client takes that.

    A plain function stays one: `inline` says that it is.
    """
    coded = _coder(made_here())

    @functools.wraps(call)
    def compressed_inline(request: Any) -> Any:
        return coded(request, call(request))

    @functools.wraps(call)
    async def compressed(request: Any) -> Any:
        return coded(request, await call(request))

    return compressed_inline if inline else compressed


def _coder(codings: tuple[Coding, ...]) -> Callable[[Any, Any], Any]:
    """What makes of a request and its endpoint's result that in a coding that the client takes."""
    heads = {one: _head(("Content-Encoding", one.name)) for one in codings}

    def coded(request: Any, result: Any) -> Any:
        if type(result) not in _DATA:
            return _other(request, result, codings)
        # The usual answer: what is asked of others is known of it.
        body = request.lane.service.renderer.encode_json(result)
        coding = chosen(request, codings) if len(body) >= _WORTH else None
        if coding is None:
            return Encoded(*_AS_IT_IS, body)
        return _in_coding(Encoded(*heads[coding], body), body, coding)

    return coded


def _other(request: Any, result: Any, codings: tuple[Coding, ...]) -> Any:
    """The same for a result that is no plain data."""
    if isinstance(result, Live):
        return _stream(request, result, codings) if type(result) is Stream else result
    status, headers, body = request.lane.service.renderer.parts(result)
    is_meant = bool(body) and _is_meant(status, headers)
    coding = chosen(request, codings) if is_meant and len(body) >= _WORTH else None
    if coding is None:
        return Response(status, headers, body or None)
    headers = [*_weakened(headers), ("Content-Encoding", coding.name)]
    return _in_coding(Response(status, headers), body, coding)


def _in_coding(made: Response, body: bytes, coding: Coding) -> Response | _Later:
    """`made`, whose body is `body` in that coding: here, or in a thread."""
    made.body = body
    if len(body) >= coding.large:
        return _Later(made, coding)
    made.body = coding.compress(body)
    return made


class _Later(Live):
    """A large answer, which is compressed in a thread before it is sent."""

    __slots__ = ("_answer", "_coding")

    def __init__(self, answer: Response, coding: Coding) -> None:
        self.status, self.headers, self.done = answer.status, answer.headers, None
        self._answer = answer
        self._coding = coding

    async def send(self, lane: Any, request: Any) -> None:
        """See :class:`apihour_http.response.Live`."""
        answer: Any = self._answer
        try:
            answer.body = await asyncio.to_thread(self._coding.compress, answer.body)
        except Exception as error:
            answer = lane.service.failed(request, error)
        lane.answer(request, answer)


def _is_meant(status: int, headers: list[tuple[str, str]]) -> bool:
    """Whether it may be compressed; tells caches what that depends on."""
    named = {name.lower(): value for name, value in headers}
    if status not in _WHOLE or "content-encoding" in named or not _TEXT.match(
        named.get("content-type", "")
    ):
        return False
    if "accept-encoding" not in named.get("vary", "").lower():
        headers.append(("Vary", "Accept-Encoding"))
    return True


def _weakened(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """RFC 9110 8.8.3.3: a strong tag would name bytes that are not sent."""
    return [
        (name, f"W/{value}" if name.lower() == "etag" and not value.startswith("W/") else value)
        for name, value in headers]


def _stream(request: Any, stream: Stream, codings: tuple[Coding, ...]) -> Stream:
    # A feed ends when the server drains, without the end that gzip needs.
    if stream.endless or not _is_meant(stream.status, stream.headers):
        return stream
    coding = chosen(request, codings)
    if coding is None:
        return stream
    headers = [*_weakened(stream.headers), ("Content-Encoding", coding.name)]
    squeezed = Stream(_Squeezed(stream, coding), stream.status, headers)
    squeezed.done = stream.done
    return squeezed


class _Squeezed:
    """The pieces of a stream, each compressed and on its way before the next is asked for."""

    __slots__ = ("_coder", "_large", "_stream")

    def __init__(self, stream: Stream, coding: Coding) -> None:
        self._stream = stream
        self._coder: Any = coding.make()
        self._large = coding.large

    def __aiter__(self) -> _Squeezed:
        return self

    async def __anext__(self) -> bytes:
        coder = self._coder
        if coder is None:
            raise StopAsyncIteration
        try:
            piece = await anext(self._stream.body)
        except StopAsyncIteration:
            self._coder = None
            return bytes(coder.finish())
        data = self._stream.encode(piece)
        if len(data) < self._large:
            return _squeeze(coder, data)
        return await asyncio.to_thread(_squeeze, coder, data)

    async def aclose(self) -> None:
        """Let the iterator clean up."""
        close = getattr(self._stream.body, "aclose", None)
        if close is not None:
            await close()
