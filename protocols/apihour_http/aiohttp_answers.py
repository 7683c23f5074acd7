"""JSON and HTML answers for aiohttp handlers, and the key under which they find the container.

Direct endpoints may return them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from apihour_http.jsonable import with_fallback
from apihour_http.options import default_dumps

__all__ = ["CONTAINER", "HTML", "JSON"]

CONTAINER: web.AppKey[Any] = web.AppKey("CONTAINER", object)
"""``request.app[CONTAINER]`` is the worker's container, None when served without one."""

_dumps = with_fallback(default_dumps())


class JSON(web.Response):
    """An answer of JSON in UTF-8; `dumps` replaces ujson."""

    def __init__(
        self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None, *,
        dumps: Callable[[Any], str | bytes] | None = None,
    ) -> None:
        text = (dumps or _dumps)(data)
        super().__init__(
            body=text.encode() if isinstance(text, str) else text, status=status,
            headers=headers, content_type="application/json",
        )


class HTML(web.Response):
    """An answer of HTML in UTF-8."""

    def __init__(
        self, text: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            text=text, status=status, headers=headers, content_type="text/html", charset="utf-8"
        )
