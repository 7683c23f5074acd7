"""The endpoint of ``routes.static(path, directory)``: a request becomes an answer with a file.

Rules:

- It runs in the pool of threads: a disk, or a mount that hangs, does not hold up the loop. With
  the extension, small files that the kernel has in its memory need no thread (cached_files.py).
- A file that stands beside with ``.br`` or ``.gz`` after its name, and is no older, is sent in its
  place to those who accept that coding; it has an ETag of its own.
- A directory is its ``index.html``, at its name with a slash behind it: links in the page are
  meant from there. There is no listing.
- Media types are the standard library's own, whatever the machine says in ``/etc/mime.types``.
"""

from __future__ import annotations

import errno
import mimetypes
import os
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from apihour_http.errors import HTTPError, RouteError
from apihour_http.response import Response
from apihour_http.speed import compiled
from apihour_http.static.cached_files import CachedFiles
from apihour_http.static.conditions import Validators, accepted_ends, judge, part_of
from apihour_http.static.open_files import FilePieces, OpenFile, open_beneath
from apihour_http.static.remembered import RememberedFiles
from apihour_http.streaming.stream import Stream

__all__ = ["static_endpoint"]

# Bytes up to which a file is read at once.
_SMALL = 131072
_INDEX = "index.html"
_LAST_DATE = 253402300799  # seconds: the end of the year 9999, which a date of HTTP can tell
_LONGEST = 3600  # seconds that a file is remembered
_TYPES = mimetypes.MimeTypes()
# What its table has not, or has otherwise, in one version or another (RFC 9239 and others).
for _kind, _ends in {
    "text/javascript": (".js", ".mjs"), "application/wasm": (".wasm",),
    "application/manifest+json": (".webmanifest",), "font/woff": (".woff",),
    "font/woff2": (".woff2",), "image/webp": (".webp",), "image/avif": (".avif",),
    "text/markdown": (".md",),
}.items():
    for _end in _ends:
        _TYPES.add_type(_kind, _end)


def static_endpoint(
    path: str, directory: str | os.PathLike[str], remember: float = 0.0
) -> Callable[[Any], Any]:
    """The endpoint that answers with the files of `directory`. Raises RouteError."""
    try:
        root = os.path.abspath(os.fspath(directory))
    except TypeError:
        root = ""
    if not os.path.isdir(root):
        raise RouteError(f"static {path!r}: {directory!r}: expected a directory")

    def static(request: Any) -> Any:
        return _answer(request, root, request.match_info["path"])

    if isinstance(remember, bool) or not 0 <= remember <= _LONGEST:
        raise RouteError(f"static {path!r}: remember={remember!r}: expected 0 to {_LONGEST} "
                         "seconds")
    if remember:
        return RememberedFiles(static, remember)
    return CachedFiles(static, root, _headers, _SMALL) if compiled is not None else static


def _answer(request: Any, root: str, path: str) -> Any:
    if not path or path.endswith("/"):
        path += _INDEX
    try:
        return _found(request, root, path)
    except PermissionError:
        raise HTTPError(404) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise HTTPError(503, headers={"Retry-After": "1"}) from error
        raise


def _found(request: Any, root: str, path: str) -> Any:
    found = open_beneath(root, path)
    if found is None and (index := open_beneath(root, f"{path}/{_INDEX}")) is not None:
        os.close(index.fd)
        return _with_slash(request)
    if found is None:
        raise HTTPError(404)
    try:
        answer = _encoded(request, root, path, found)
        return answer if answer is not None else _part(
            request, found, _headers(path, "", found), "")
    finally:
        os.close(found.fd)  # what is sent later has a descriptor of its own


def _with_slash(request: Any) -> Response:
    """Where a directory is: a reference that cannot lead elsewhere (RFC 3986 5.2.2)."""
    path, mark, query = request.path_qs.partition("?")
    return Response(301, {"Location": f"./{path.rpartition('/')[2]}/{mark}{query}"})


def _encoded(request: Any, root: str, path: str, plain: OpenFile) -> Any:
    """The answer with what stands beside a file and was compressed beforehand, if that may be."""
    for coding, end in accepted_ends(request.headers.get("Accept-Encoding", "")):
        try:
            other = open_beneath(root, path + end)
        except PermissionError:
            continue  # whoever made it is not done, or let nobody have it
        if other is None:
            continue
        try:
            if other.modified >= plain.modified:
                return _part(request, other, _headers(path, coding, other), coding)
        finally:
            os.close(other.fd)
    return None


def _headers(path: str, coding: str, found: OpenFile) -> list[tuple[str, str]]:
    kind, compressed = _TYPES.guess_type(path)
    if compressed or kind is None:
        kind = "application/gzip" if compressed == "gzip" else "application/octet-stream"
    elif kind.startswith("text/"):
        kind += "; charset=utf-8"
    now = _validators(found, coding)
    headers = [
        ("Content-Type", kind), ("ETag", now.etag),
        ("Last-Modified", formatdate(now.modified, usegmt=True)),
        ("Accept-Ranges", "bytes"), ("Vary", "Accept-Encoding"),
    ]
    return [*headers, ("Content-Encoding", coding)] if coding else headers


def _validators(found: OpenFile, coding: str) -> Validators:
    end = f"-{coding}" if coding else ""
    modified = max(0, min(found.modified // 10**9, _LAST_DATE))
    return Validators(f'"{found.modified:x}-{found.size:x}{end}"', modified)


def _part(
    request: Any, found: OpenFile, headers: list[tuple[str, str]], coding: str
) -> Any:
    now = _validators(found, coding)
    status = judge(request.headers, now)
    if status == 412:
        raise HTTPError(412)
    if status == 304:
        return Response(304, headers)
    try:
        # RFC 9110 14.2: a range is one of GET's.
        part = part_of(request.headers, found.size, now) if request.verb == b"GET" else None
    except ValueError as error:
        raise HTTPError(416, headers={"Content-Range": str(error)}) from None
    start, count = part or (0, found.size)
    if part is not None:
        status = 206
        headers.append(("Content-Range", f"bytes {start}-{start + count - 1}/{found.size}"))
    if count <= _SMALL:
        body = os.pread(found.fd, count, start)
        if len(body) < count:  # it was cut shorter meanwhile: these would be another file's headers
            raise HTTPError(503, headers={"Retry-After": "1"})
        return Response(status, headers, body)
    pieces = FilePieces(os.dup(found.fd), start, count)
    return Stream(pieces, status, headers, length=count)
