"""Bodies are decoded by the character set that they name, if it is one."""

from __future__ import annotations

from typing import Any

import pytest

from apihour_http import Request, Routes
from apihour_http.charsets import decoded

from .support import get, serving


@pytest.mark.parametrize("charset", [
    "punycode", "PunyCode", "idna", "unicode_escape", "raw-unicode-escape", "undefined", "hex",
    "rot13", "zlib", "none-such",
])
async def test_what_is_no_character_set_is_refused(charset: str) -> None:
    routes = Routes()

    @routes.post("/text")
    async def text(request: Request) -> str:
        return await request.text()

    @routes.post("/json")
    async def json(request: Request) -> Any:
        return await request.json()

    async with serving(routes) as served:
        for path in ("/text", "/json"):
            raw = get(path, "Connection: close", f"Content-Type: text/plain; charset={charset}",
                      "Content-Length: 500000").replace(b"GET", b"POST")
            assert (await served.ask(raw + b"a" * 500_000)).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("charset", [
    "utf-8", "UTF8", "latin-1", "cp1252", "utf-16", "big5", "koi8-r"])
def test_character_sets_are_read(charset: str) -> None:
    assert decoded("abc".encode(charset), charset) == "abc"
