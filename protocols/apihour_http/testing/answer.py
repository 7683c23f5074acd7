"""What a server answered, whole."""

from __future__ import annotations

import io
import json
from http.client import HTTPException, HTTPResponse
from typing import Any

from apihour_http.mapping import Headers

__all__ = ["Answer", "read_answer"]


class Answer:
    """``status``, ``reason``, ``headers`` (without regard to case, ``getall`` for repeated ones)
    and ``body`` (bytes, decoded from chunks, not from gzip)."""

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as text of UTF-8. Raises UnicodeDecodeError."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, decoded from JSON. Raises ValueError with its begin when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ValueError(f"{self!r}: its body is not JSON ({error}): "
                             f"{self.body[:100]!a}") from None

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.reason}, {len(self.body)} bytes>"


class _Received(io.BytesIO):
    """Bytes in the place of a socket: what the standard library reads an answer from."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


def read_answer(method: str, data: bytes, asked: str) -> Answer:
    """The answer in all that a connection gave. Raises ConnectionError when it is none, or cut."""
    response = HTTPResponse(_Received(data), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (HTTPException, ValueError) as error:
        raise ConnectionError(f"{asked}: no whole answer, but {len(data)} bytes "
                              f"{data[:100]!a} ({error!r})") from None
    return Answer(response.status, response.reason, Headers(response.getheaders()), body)
