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
from functools import lru_cache
from time import monotonic
from typing import Any

from apihour_http.response import Response
from apihour_http.static.conditions import accepts

__all__ = ["RememberedFiles"]

_MOST = 1024  # answers
_ROOM = 16 << 20  # bytes of all of them
_CONDITIONS = frozenset({
    b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since",
    b"if-range"})


class RememberedFiles:
    """An endpoint: `answer`, which reads the disk in a thread, and before it what it remembers."""

    def __init__(self, answer: Callable[[Any], Any], seconds: float) -> None:
        self.__qualname__ = "static"
        self._answer = answer
        self._seconds = seconds
        self._known: dict[tuple[str, str], tuple[float, Response]] = {}
        self._bytes = 0

    def __call__(self, request: Any) -> Any:
        """The answer from the disk."""
        until = monotonic() + self._seconds
        found = self._answer(request)
        if type(found) is Response and found.status == 200 and not _has_conditions(request):
            self._keep(_key(request), until, found)
        return found

    def _keep(self, key: tuple[str, str], until: float, found: Response) -> None:
        if len(self._known) >= _MOST or self._bytes + len(found.body) > _ROOM:
            self._known.clear()
            self._bytes = 0
        known = self._known.get(key)
        self._bytes += len(found.body) - (len(known[1].body) if known is not None else 0)
        self._known[key] = until, found.copy()

    def at_once(self, request: Any) -> Response | None:
        """What is remembered; None when the disk is to be asked."""
        known = self._known.get(_key(request))
        if known is None or known[0] < monotonic() or _has_conditions(request):
            return None
        return known[1].copy()  # a middleware may change its own


def _has_conditions(request: Any) -> bool:
    return any(name.lower() in _CONDITIONS for name, _ in request.raw_headers)


def _key(request: Any) -> tuple[str, str]:
    for name, _ in request.raw_headers:
        if len(name) == 15 and name.lower() == b"accept-encoding":
            return request.match_info["path"], _codings(request.headers["Accept-Encoding"])
    return request.match_info["path"], ""


@lru_cache(256)
def _codings(header: str) -> str:
    return "".join(coding for coding in ("br", "gzip") if accepts(header, coding))
