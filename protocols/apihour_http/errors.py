"""The exceptions of the HTTP plugin, by whose fault they are.

::

    HTTPError              an endpoint answers with this status (its own decision)
    └── BadRequest         the peer's message cannot be accepted as it is
    RouteError             a route was declared wrongly (the application's fault)
ClientGone             the peer left before its body was whole

An HTTPError leaves as a problem document (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

__all__ = ["BadRequest", "ClientGone", "HTTPError", "RouteError", "reason_of"]

_REASONS = {int(status): status.phrase for status in HTTPStatus}


def reason_of(status: int) -> str:
    """The phrase of a status line, ``Unknown`` where RFC 9110 knows none."""
    return _REASONS.get(status, "Unknown")


class HTTPError(Exception):
    """Raise it in an endpoint to answer with `status` and a problem document (RFC 9457).

    `detail` is for people; `headers` are added to the answer; `extra` become members of
    the document. Raises ValueError when `status` is not from 400 to 599.
    """

    def __init__(
        self, status: int, detail: str = "", *, headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status {status!r}: expected an error status, 400 to 599")
        super().__init__(f"{status} {detail or reason_of(status)}")
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The problem document: ``title`` and ``status``, ``detail`` when there is one."""
        problem: dict[str, Any] = {"title": reason_of(self.status), "status": self.status}
        if self.detail:
            problem["detail"] = self.detail
        problem.update(self.extra)
        return problem


class BadRequest(HTTPError):
    """A message that is refused before any endpoint sees it; the connection closes."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(status, detail)


class ClientGone(ConnectionResetError):
    """The client left while its body was read; an endpoint that does not catch it is done."""


class RouteError(ValueError):
    """A route that cannot be added; the message names the path and what was expected."""
