"""Answers compressed for clients that take it: routes declared with ``compress=True``.

Rules:

- gzip (RFC 9110 8.4.1.3), which every client takes that takes anything; before it Brotli (RFC
  7932), where ``brotli`` or ``brotlicffi`` is installed.
- What is short, compressed already, a part, or no text stays as it is; events do too, each is to
  arrive by itself.
- A large answer is compressed in a thread: the loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import re
import zlib
from collections.abc import Callable
from typing import Any

from apihour_http.response import Live, Response
from apihour_http.static.conditions import accepts
from apihour_http.streaming.stream import Stream

__all__ = ["with_compression"]

# Bytes: shorter answers fit into a packet or two as they are.
_WORTH = 1024
# Bytes from which on it takes longer than a switch to a thread (0.3 ms at 20 ns a byte).
_LARGE = 16384
_LEVEL = 5
# Half of what 4 or gzip takes, for as few bytes as gzip's at 6.
_BROTLI_LEVEL = 3
_GZIP = 31  # zlib's word for the format
_TEXT = re.compile(r"text/|application/(?:[\w.+-]+\+)?(?:json|xml|javascript|x-ndjson)|image/svg")
_WHOLE = frozenset({200, 201, 202, 203, *range(400, 600)})


_JSON = Response(200, [("Content-Type", "application/json"), ("Vary", "Accept-Encoding")])


class _Gzip:
    """One answer as gzip, piece by piece, with the methods of Brotli's coder."""

    def __init__(self) -> None:
        self._coder = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)

    def process(self, data: bytes) -> bytes:
        """What of `data` leaves now."""
        return self._coder.compress(data)

    def flush(self) -> bytes:
        """The rest of it, so that a client can have all that was processed."""
        return self._coder.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The end."""
        return self._coder.flush()


def _codings() -> list[tuple[str, Callable[[], Any]]]:
    """The codings that can be made here, the better first: their names and coders."""
    found: list[tuple[str, Callable[[], Any]]] = [("gzip", _Gzip)]
    for name in ("brotli", "brotlicffi"):
        if importlib.util.find_spec(name) is not None:
            coder = importlib.import_module(name).Compressor
            return [("br", functools.partial(coder, quality=_BROTLI_LEVEL)), *found]
    return found


def _compress(make: Callable[[], Any], body: bytes) -> bytes:
    coder = make()
    return bytes(coder.process(body) + coder.finish())


def _squeeze(coder: Any, piece: bytes) -> bytes:
    """What leaves of a piece, so that a client can have all of it."""
    return bytes(coder.process(piece) + coder.flush())


def with_compression(call: Callable[[Any], Any], inline: bool) -> Callable[[Any], Any]:
    """Wrap an endpoint's `call`: its answers are compressed where the client takes that.

    A plain function stays one: `inline` says that it is.
    """
    codings = _codings()

    @functools.wraps(call)
    def compressed_inline(request: Any) -> Any:
        return _coded(request, call(request), codings)

    @functools.wraps(call)
    async def compressed(request: Any) -> Any:
        return _coded(request, await call(request), codings)

    return compressed_inline if inline else compressed


def _coded(request: Any, result: Any, codings: list[tuple[str, Callable[[], Any]]]) -> Any:
    """What an endpoint returned, in a coding that the client takes."""
    if isinstance(result, Live):
        return _stream(request, result, codings) if type(result) is Stream else result
    renderer = request.lane.service.renderer
    if type(result) is dict:  # the usual answer: what is asked below is known of it
        made, is_meant = _JSON.copy(), True
        made.body = renderer.encode_json(result)
    else:
        status, headers, body = renderer.parts(result)
        is_meant = bool(body) and _is_meant(status, headers)
        made = Response(status, headers, body or None)
    if not is_meant or len(made.body) < _WORTH:
        return made
    name, make = _chosen(request, codings)
    if not name:
        return made
    made = Response(made.status, [*_weakened(made.headers), ("Content-Encoding", name)], made.body)
    if len(made.body) >= _LARGE:
        return _Later(made, make)
    made.body = _compress(make, made.body)
    return made


class _Later(Live):
    """A large answer, which is compressed in a thread before it is sent."""

    __slots__ = ("_answer", "_make")

    def __init__(self, answer: Response, make: Callable[[], Any]) -> None:
        self.status, self.headers, self.done = answer.status, answer.headers, None
        self._answer = answer
        self._make = make

    async def send(self, lane: Any, request: Any) -> None:
        """See :class:`apihour_http.response.Live`."""
        answer: Any = self._answer
        try:
            answer.body = await asyncio.to_thread(_compress, self._make, answer.body)
        except Exception as error:
            answer = lane.service.failed(request, error)
        lane.answer(request, answer)


def _chosen(
    request: Any, codings: list[tuple[str, Callable[[], Any]]]
) -> tuple[str, Callable[[], Any]]:
    """The best coding that the client takes; one without a name when it takes none."""
    if not any(len(name) == 15 and name.lower() == b"accept-encoding"
               for name, _ in request.raw_headers):
        return "", _Gzip
    accepted = request.headers.get("Accept-Encoding", "")
    return next((one for one in codings if accepts(accepted, one[0])), ("", _Gzip))


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


def _stream(
    request: Any, stream: Stream, codings: list[tuple[str, Callable[[], Any]]]
) -> Stream:
    # A feed ends when the server drains, without the end that gzip needs.
    if stream.endless or not _is_meant(stream.status, stream.headers):
        return stream
    name, make = _chosen(request, codings)
    if not name:
        return stream
    headers = [*_weakened(stream.headers), ("Content-Encoding", name)]
    squeezed = Stream(_Squeezed(stream, make()), stream.status, headers)
    squeezed.done = stream.done
    return squeezed


class _Squeezed:
    """The pieces of a stream, each compressed and on its way before the next is asked for."""

    __slots__ = ("_coder", "_stream")

    def __init__(self, stream: Stream, coder: Any) -> None:
        self._stream = stream
        self._coder = coder

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
        if len(data) < _LARGE:
            return _squeeze(coder, data)
        return await asyncio.to_thread(_squeeze, coder, data)

    async def aclose(self) -> None:
        """Let the iterator clean up."""
        close = getattr(self._stream.body, "aclose", None)
        if close is not None:
            await close()
