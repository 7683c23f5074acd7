"""Small files that the kernel has in its memory: read in the loop, which never waits for the disk.

Rules:

- Each answer has what the file has now: nothing is remembered but what its name, size and time
  make of its headers.
- What the kernel does not know at once is not waited for: the endpoint is asked, in a thread; so
  for parts, conditions, HEAD, directories, and what is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from apihour_http.response import Response, lines_of
from apihour_http.speed import compiled
from apihour_http.static.conditions import accepted_ends, has_conditions
from apihour_http.static.open_files import OpenFile

__all__ = ["CachedFiles"]

_HEADS = 1024  # that are remembered, of some 500 bytes

HeadersOf = Callable[[str, str, OpenFile], list[tuple[str, str]]]


class CachedFiles:
    """An endpoint: `answer`, which reads `root` in a thread, and before it what needs none.

    `headers` makes those of a path, a coding and a file; `small` is bytes.
    """

    def __init__(
        self, answer: Callable[[Any], Any], root: str, headers: HeadersOf, small: int
    ) -> None:
        self.__qualname__ = "static"
        self._answer = answer
        self._root = os.fsencode(root)
        self._small = small

        @lru_cache(_HEADS)
        def head(path: str, coding: str, size: int, modified: int) -> Response:
            return Response(200, headers(path, coding, OpenFile(-1, size, modified)))

        @lru_cache(_HEADS)
        def lines(path: str, coding: str, size: int, modified: int) -> str:
            return f"{lines_of(head(path, coding, size, modified))}Content-Length: {size}\r\n\r\n"

        self._head = head
        # What is asked first: it answers the usual by itself, and has all else done here.
        self.at_once = compiled.KnownFiles(
            self._root, small, accepted_ends, lines, self._at_once)

    def __call__(self, request: Any) -> Any:
        """The answer from the disk."""
        return self._answer(request)

    def _at_once(self, request: Any) -> Response | None:
        """The whole file, as it is now; None when that is not known at once."""
        if request.verb != b"GET" or has_conditions(request.raw_headers):
            return None
        path = request.match_info["path"]
        accepted = request.field(b"accept-encoding")
        ends = accepted_ends(accepted.decode("latin-1")) if accepted else ()
        found = compiled.read_cached(self._root, os.fsencode(path), ends, self._small)
        if found is None:
            return None
        answer: Response = self._head(path, *found[:3]).copy()
        answer.body = found[3]
        return answer
