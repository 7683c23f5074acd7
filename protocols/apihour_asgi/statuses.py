"""What an ASGI application answers, counted by class of status.

Rules: one call per message and none per byte; an application that raises, or ends without an
answer, has answered 500, because that is what its client gets, unless that one has left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from apihour_asgi.lifespan import Application

__all__ = ["Statuses"]


class Statuses:
    """Counts of one application's responses since start.

    `is_gone` tells by an exchange's ``send`` whether its client has left.
    """

    def __init__(self, is_gone: Callable[[Any], bool]) -> None:
        self._is_gone = is_gone
        self._classes = [0] * 10

    def count(self, app: Application) -> Application:
        """`app`, with the statuses of its HTTP responses counted."""

        async def counted(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> Any:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            answered = False

            def sending(message: Any) -> Awaitable[None]:
                nonlocal answered
                if not answered and message["type"] == "http.response.start":
                    self._classes[message["status"] // 100 % 10] += 1
                    answered = True
                return send(message)

            try:
                return await app(scope, receive, sending)
            finally:
                if not answered and not self._is_gone(send):
                    self._classes[5] += 1

        return counted

    def record(self) -> dict[str, int]:
        """``{"2xx": n, "3xx": n, "4xx": n, "5xx": n}``."""
        return {f"{digit}xx": self._classes[digit] for digit in range(2, 6)}
