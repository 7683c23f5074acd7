"""Small files kept in memory for a moment: ``routes.static(path, directory, remember=1.0)``.

Rules:

- What is remembered was seen on the disk at most so many seconds ago; it is one whole answer, with
  the validators that its bytes have. A part, or what a client may have already, is always asked of
  the disk.
- An answer from memory needs no thread; the disk is never asked in the loop.
- Who invents paths or headers gains nothing: what is there is bounded, and dropped when it is full.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from apihour_http.response import Response
from apihour_http.static.conditions import accepted_ends, has_conditions

__all__ = ["RememberedFiles"]

_MOST = 1024  # answers
_ROOM = 16 << 20  # bytes of all of them

AnswerKey = tuple[str, tuple[tuple[str, str], ...]]  # a path, and the codings that are accepted


class RememberedFiles:
    """An endpoint: `answer`, which reads the disk in a thread, and before it what it remembers."""

    def __init__(self, answer: Callable[[Any], Any], seconds: float) -> None:
        self.__qualname__ = "static"
        self._answer = answer
        self._seconds = seconds
        self._known: dict[AnswerKey, tuple[float, Response]] = {}
        self._bytes = 0

    def __call__(self, request: Any) -> Any:
        """The answer from the disk."""
        until = monotonic() + self._seconds
        found = self._answer(request)
        is_whole = type(found) is Response and found.status == 200
        if is_whole and not has_conditions(request.raw_headers):
            self._keep(_key(request), until, found)
        return found

    def _keep(self, key: AnswerKey, until: float, found: Response) -> None:
        if len(self._known) >= _MOST or self._bytes + len(found.body) > _ROOM:
            self._known.clear()
            self._bytes = 0
        known = self._known.get(key)
        self._bytes += len(found.body) - (len(known[1].body) if known is not None else 0)
        self._known[key] = until, found.copy()

    def at_once(self, request: Any) -> Response | None:
        """What is remembered; None when the disk is to be asked."""
        known = self._known.get(_key(request))
        if known is None or known[0] < monotonic() or has_conditions(request.raw_headers):
            return None
        return known[1].copy()  # a middleware may change its own


def _key(request: Any) -> AnswerKey:
    for name, _ in request.raw_headers:
        if len(name) == 15 and name.lower() == b"accept-encoding":
            return request.match_info["path"], accepted_ends(request.headers["Accept-Encoding"])
    return request.match_info["path"], ()
