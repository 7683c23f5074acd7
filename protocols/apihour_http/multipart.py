"""Multipart bodies (RFC 7578), read by aiohttp's reader, part by part and within limits.

Rules:

- Nothing is collected first: a part is read while its body comes, at the pace of who reads it.
- The number of parts, their heads, and their sizes are bounded; all of it by ``max_body``.
- Files larger than some memory are spooled to disk, written in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from time import monotonic
from typing import Any

from apihour_http.charsets import decoded
from apihour_http.errors import HTTPError

__all__ = ["Part", "UploadedFile", "collect", "parts"]

_CHUNK = 65536
# Seconds that one body may take of a turn of the loop.
_BUDGET = 0.002
# Bytes of a line within it: those of a part's head, and what stands before the first boundary.
_LINE = 8190
# Bytes of a file that are kept in memory.
_IN_MEMORY = 1 << 20


class _Content:
    """What aiohttp's reader reads: a body that comes in pieces."""

    __slots__ = ("_at", "_ended", "_held", "_piece", "_pieces", "_turn")

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0  # what of the piece was taken
        self._held = bytearray()
        self._ended = False
        self._turn = monotonic()

    async def _more(self) -> bool:
        """Hold some more, a little: putting back costs what is held."""
        if self._at >= len(self._piece):
            self._at = 0
            self._piece = await anext(self._pieces, b"")
        more = self._piece[self._at:self._at + _CHUNK]
        self._at += _CHUNK
        self._held += more
        self._ended = not more
        return not self._ended

    async def _give_way(self) -> None:
        """Let others have their turn: a body of many tiny lines and parts holds up nobody."""
        if monotonic() - self._turn > _BUDGET:
            await asyncio.sleep(0)
            self._turn = monotonic()

    async def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end."""
        await self._give_way()
        while not self._held and not self._ended:
            await self._more()
        return self._take(size)

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """A line with its end. Raises ValueError for one that is too long."""
        await self._give_way()
        most = max_line_length or _LINE
        searched = 0
        while (end := self._held.find(b"\n", searched)) < 0:
            searched = len(self._held)
            if searched > most:
                break
            if self._ended or not await self._more():
                return self._take(searched)
        if not 0 <= end <= most:
            raise ValueError(f"a line over {most} bytes")
        return self._take(end + 1)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def unread_data(self, data: bytes) -> None:
        """Put back what was read too much."""
        self._held[:0] = data

    def at_eof(self) -> bool:
        """Whether nothing is left."""
        return self._ended and not self._held


class Part:
    """One part; ``async for chunk in part`` gives its content as it comes."""

    __slots__ = ("_is_form", "_most", "_reader", "headers", "name")

    def __init__(self, reader: Any, is_form: bool, most: int | None) -> None:
        self._reader = reader
        self._is_form = is_form
        self._most = most
        self.headers: Mapping[str, str] = reader.headers
        self.name: str | None = reader.name

    @property
    def filename(self) -> str | None:
        """The file's name, as its client calls it: never a path to write to; None for a field."""
        name: str | None = self._reader.filename
        return name

    @property
    def content_type(self) -> str:
        """Its media type, as its client says, without parameters."""
        return self.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        while True:
            try:
                chunk = await self._reader.read_chunk(_CHUNK)
                if chunk and self._is_form:
                    chunk = self._reader.decode(chunk)
            except (ValueError, RuntimeError) as error:
                raise _malformed(error) from None
            size += len(chunk)
            if self._most is not None and size > self._most:
                raise HTTPError(413, f"part {self.name!a}: over {self._most} bytes")
            if chunk:
                yield bytes(chunk)
            elif self._reader.at_eof():
                return

    def limited(self, most: int | None) -> Part:
        """The same part, of `most` bytes."""
        return Part(self._reader, self._is_form, most)

    async def read(self) -> bytes:
        """All of it. Raises HTTPError 413 beyond its limit."""
        return b"".join([chunk async for chunk in self])

    async def text(self) -> str:
        """All of it as text. Raises HTTPError 400 when it is none."""
        try:
            return decoded(await self.read(), self._reader.get_charset("utf-8"))
        except (LookupError, UnicodeDecodeError):
            raise HTTPError(400, f"part {self.name!a} is no text") from None

    def __repr__(self) -> str:
        return f"<Part {self.name!a}>"


class _Spooled(SpooledTemporaryFile[bytes]):
    """One that closes by itself with its last user: a request has no end that it could wait for."""

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file among the fields of a form, with aiohttp's names; ``file`` stands at its begin.

    ``filename`` and ``content_type`` are what its client says: never a path to write to.
    """

    name: str
    filename: str
    file: Any
    content_type: str
    headers: Mapping[str, str]
    size: int
    """In bytes."""


async def parts(
    request: Any, max_parts: int, max_part: int | None
) -> AsyncIterator[Part]:
    """The parts of a request's body, one after the other: what is left of one is skipped.

    Raises HTTPError: 415 for what is no multipart body, 413 for more parts, 400 for a malformed
    one.
    """
    from aiohttp import MultipartReader

    from apihour_http.hush import hush

    hush()
    if not request.is_multipart():
        raise HTTPError(415, f"{request.content_type}: expected multipart/form-data")
    kind = request.headers["Content-Type"]
    is_form = request.content_type == "multipart/form-data"
    try:
        reader = MultipartReader({"Content-Type": kind}, _Content(request.stream()))  # type: ignore[arg-type]
    except (ValueError, AssertionError) as error:
        raise _malformed(error) from None
    count = 0
    while True:
        part = await _next_part(reader)
        if part is None:
            return
        count += 1
        if count > max_parts:
            raise HTTPError(413, f"more than {max_parts} parts")
        if isinstance(part, MultipartReader):
            raise HTTPError(400, "a multipart body within a part")
        yield Part(part, is_form, max_part)


async def _next_part(reader: Any) -> Any:
    from aiohttp.http_exceptions import HttpProcessingError

    try:
        return await reader.next()
    except (ValueError, RuntimeError, HttpProcessingError) as error:
        raise _malformed(error) from None


async def collect(
    request: Any, max_parts: int, max_field: int, max_file: int | None
) -> list[tuple[str, Any]]:
    """The fields of a form: text, or an :class:`UploadedFile`. Raises HTTPError."""
    if request.content_type != "multipart/form-data":
        raise HTTPError(415, f"{request.content_type}: expected multipart/form-data")
    fields: list[tuple[str, Any]] = []
    async for part in parts(request, max_parts, None):
        if part.name is None:
            raise HTTPError(400, "a part of the form has no name")
        is_file = part.filename is not None
        limited = part.limited(max_file if is_file else max_field)
        fields.append((part.name, await (_spool(limited) if is_file else limited.text())))
    return fields


async def _spool(part: Part) -> UploadedFile:
    file = _Spooled(_IN_MEMORY)
    size = 0
    async for chunk in part:
        size += len(chunk)
        if size > _IN_MEMORY:  # it goes to disk
            await asyncio.to_thread(file.write, chunk)
        else:
            file.write(chunk)
    file.seek(0)
    return UploadedFile(str(part.name), str(part.filename), file, part.content_type,
                        part.headers, size)


def _malformed(error: Exception) -> HTTPError:
    said = ascii(str(error))[1:-1][:100]
    return HTTPError(400, f"the body is not as its Content-Type says: {said}")
