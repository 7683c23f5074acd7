"""What an endpoint may return beside its data: the status its route declares, and no tuple.

Rules:

- ``status=201`` on a route is the status of plain data it returns; a Response, an HTTPError
  and an aiohttp response say their own.
- A tuple is refused: elsewhere it would be a status, in JSON it would be an array, and
  whoever returns ``{…}, 404`` means the first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from apihour_http.errors import HTTPError
from apihour_http.response import Live, Response, is_aiohttp, is_usual, refuse_tuple

__all__ = ["with_status"]


def with_status(call: Callable[[Any], Any], status: int, inline: bool) -> Callable[[Any], Any]:
    """Wrap an endpoint's `call`: plain data that it returns is answered with `status`."""

    def dress(result: Any) -> Any:
        if is_usual(result):
            return Response(status, None, result)
        if isinstance(result, Response | HTTPError | Live) or is_aiohttp(result):
            return result
        refuse_tuple(result)
        return Response(status, None, result)

    if inline:

        @functools.wraps(call)
        def answer(request: Any) -> Any:
            return dress(call(request))

        return answer

    @functools.wraps(call)
    async def answer_later(request: Any) -> Any:
        return dress(await call(request))

    return answer_later
