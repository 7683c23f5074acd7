"""Client: asks in memory, or over TCP, and returns whole answers.

Rules:

- Each request is a connection of its own, closed after its answer; no cookie is kept, no redirect
  followed: a test sees what was answered.
- What does not end (events, a WebSocket) is not for it: TimeoutError says which request that was.
"""

from __future__ import annotations

import asyncio
import json as _json
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from apihour_http.testing.answer import Answer, read_answer
from apihour_http.testing.house import living
from apihour_http.testing.memory import exchange

__all__ = ["Client"]

_UNSAFE = frozenset("\r\n\0")


class Client:
    """Asks `served`: in memory Routes, an HTTPServer or ASGIServer, an aiohttp or ASGI
    application, a container (its class, made with `config`, or one that is made); over TCP a URL
    or an address.

    `server` names the one of a container's servers that is asked. `peer` is the address that
    requests come from in memory, `headers` what all of them have. `timeout` is how many seconds
    an answer may take, and at the end the work behind all of them (``request.after``). `tls` is the
    context for a URL of https. `overrides` are functions that provide arguments in memory, by the
    function of the ``Depends``, or the name of the engine, in the place of which they are called;
    such an engine is not started.
    """

    def __init__(
        self, served: Any, *, server: str = "http", config: dict[str, Any] | None = None,
        peer: str = "127.0.0.1", headers: Mapping[str, str] | None = None,
        timeout: float = 10.0, tls: ssl.SSLContext | None = None,
        overrides: Mapping[Any, Any] | None = None,
    ) -> None:
        self.server: Any = None
        """The server that is asked in memory."""
        self.container: Any = None
        """The container that lives with it, whose jobs and services a test may call."""
        self.headers = dict(headers or {})
        self.timeout = timeout
        self._peer = peer
        self._tls = tls
        self._url = ""
        self._living: AbstractAsyncContextManager[Any] | None = None
        if isinstance(served, str):
            self._url = served if "://" in served else f"http://{served}"
        else:
            self._living = living(served, server, config, dict(overrides or {}), timeout)

    async def __aenter__(self) -> Self:
        if self._living is not None:
            self.server, self.container = await self._living.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._living is not None:
            await self._living.__aexit__(kind, error, trace)

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None, json: Any = None,
        data: bytes | str | Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask for `path` and return the answer.

        `params` are added to its query; `json` is sent as JSON, a mapping as `data` as a form,
        a text as UTF-8. Raises TimeoutError, and ConnectionError for an answer that is cut.
        """
        if params:
            path += ("&" if "?" in path else "?") + urlencode(params, doseq=True)
        body, kind = _body(json, data)
        fields = {"Host": self._host(), **kind, **self.headers, **(headers or {})}
        asked = f"{method} {path}"
        message = _message(asked, fields, body)
        try:
            async with asyncio.timeout(self.timeout):
                received = await self._exchange(message)
        except TimeoutError:
            raise TimeoutError(f"{asked}: no end of an answer within {self.timeout:g} s") from None
        return read_answer(method, received, asked)

    async def get(self, path: str, **options: Any) -> Answer:
        """GET `path`; `options` are those of :meth:`request`, here and below."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Answer:
        """HEAD `path`."""
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """POST to `path`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        """PUT to `path`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Answer:
        """PATCH `path`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """DELETE `path`."""
        return await self.request("DELETE", path, **options)

    async def options(self, path: str, **options: Any) -> Answer:
        """OPTIONS of `path`."""
        return await self.request("OPTIONS", path, **options)

    def _host(self) -> str:
        return urlsplit(self._url).netloc if self._url else "test"

    async def _exchange(self, message: bytes) -> bytes:
        if self._url:
            return await _over_tcp(self._url, self._tls, message)
        if self.server is None:
            raise RuntimeError("the client is not started: expected async with Client(…)")
        return await exchange(self.server.stream, (self._peer, 50000), message)


def _body(json: Any, data: Any) -> tuple[bytes, dict[str, str]]:
    """The body of a request, and the fields that describe it."""
    if json is not None and data is not None:
        raise TypeError("request(): expected json or data, not both")
    if json is not None:
        body, kind = _json.dumps(json).encode(), "application/json"
    elif isinstance(data, Mapping):
        body, kind = urlencode(data, doseq=True).encode(), "application/x-www-form-urlencoded"
    elif data is None:
        return b"", {}
    else:
        body, kind = data.encode() if isinstance(data, str) else bytes(data), ""
    fields = {"Content-Length": str(len(body))}
    return body, fields | {"Content-Type": kind} if kind else fields


def _message(asked: str, fields: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{asked} HTTP/1.1", "Connection: close",
             *(f"{name}: {value}" for name, value in fields.items())]
    for line in lines:
        if _UNSAFE & set(line):
            raise ValueError(f"{line!a}: control characters are not allowed")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _over_tcp(url: str, tls: ssl.SSLContext | None, message: bytes) -> bytes:
    """Send `message` to the server at `url`; all it answers until it closes."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    context = (tls or ssl.create_default_context()) if secure else None
    connect = partial(asyncio.open_connection, parts.hostname, parts.port or (80, 443)[secure])
    reader, writer = await connect(ssl=context)
    try:
        writer.write(message)
        return await reader.read()
    finally:
        writer.transport.abort()
