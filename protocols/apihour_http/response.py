"""Answers of the direct lane: the Response value, and the bytes that go on the wire.

Rules:

- No CR, LF or NUL reaches a header: a value with one is refused before anything is sent
  (RFC 9110 5.5), so a response cannot be split.
- Length and connection headers are ours: an endpoint cannot contradict the framing.
- Nothing here does I/O; :class:`Renderer` turns a value into bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from apihour_http.cookies import expired_cookie, set_cookie_value
from apihour_http.errors import HTTPError, reason_of
from apihour_http.jsonable import to_plain, with_fallback
from apihour_http.row_set import RowSet, takes_structs

__all__ = ["Encoded", "Live", "Renderer", "Response", "is_aiohttp", "is_usual", "lines_of",
           "refuse_tuple"]

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding"})
_SEEN: set[str] = set()  # names that may be sent, so many at most
_MANY = 256
# What endpoints return mostly: sent as it is, without a look for anything more special.
_PLAIN = frozenset({dict, str, bytes, list, RowSet})
_TEXT = "text/plain; charset=utf-8"
# Bodies from this size on (bytes) are not copied to stand behind their head.
_JOINED = 16384
# RFC 9110 15.4.5, 15.3.5, 15.2: these never have a body.
_BODILESS = frozenset({204, 304})


class BaseResponse:
    """What every answer with headers of its own has."""

    __slots__ = ()
    status: int
    headers: list[tuple[str, str]]

    def set_cookie(
        self, name: str, value: str, *, max_age: int | None = None, path: str = "/",
        domain: str | None = None, secure: bool = False, httponly: bool = False,
        samesite: str | None = "Lax",
    ) -> None:
        """Have the client keep a cookie: for `max_age` seconds, or as long as it runs.

        Raises ValueError for what browsers would not take.
        """
        self.headers.append(("Set-Cookie", set_cookie_value(
            name, value, max_age=max_age, path=path, domain=domain, secure=secure,
            httponly=httponly, samesite=samesite)))

    def del_cookie(self, name: str, *, path: str = "/", domain: str | None = None) -> None:
        """Have the client forget a cookie that was set with this `path` and `domain`."""
        self.headers.append(("Set-Cookie", expired_cookie(name, path, domain)))


class Response(BaseResponse):
    """What an endpoint answers when plain data is not enough.

    `body` is bytes, str (sent as UTF-8), None, or anything else, which is sent as JSON.
    `headers` maps names to values, or lists pairs where a name repeats. Raises ValueError
    for a status outside 200 to 599, or a header that would break the message.
    """

    __slots__ = ("_checked", "body", "headers", "status")

    def __init__(
        self, status: int = 200,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        body: Any = None,
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"status {status!r}: expected 200 to 599")
        pairs: Iterable[tuple[str, str]] = headers or ()  # type: ignore[assignment]
        if type(headers) is dict or isinstance(headers, Mapping):
            pairs = headers.items()
        self.status = status
        self.headers = [(name, safe_header(name, value)) for name, value in pairs]
        self._checked = tuple(self.headers)
        self.body = body

    def copy(self) -> Response:
        """Another of the same, whose headers are its own."""
        made = Response.__new__(type(self))
        made.status, made.body = self.status, self.body
        made.headers, made._checked = list(self.headers), self._checked
        return made

    def safe_headers(self) -> list[tuple[str, str]]:
        """The headers; raises ValueError for one that came since and would break the message."""
        if tuple(self.headers) != self._checked:
            for name, value in self.headers:
                safe_header(name, value)
        return self.headers

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class Encoded(Response):
    """JSON as bytes, of a status of 200, whose headers were checked: made by the lane itself.

    `like` has the headers; `lines` are those of them behind the usual two, as they are sent.
    """

    __slots__ = ("lines",)

    def __init__(self, like: Response, lines: str, body: bytes) -> None:
        self.status, self.body, self.lines = 200, body, lines
        self.headers, self._checked = list(like.headers), like._checked

    def render(
        self, json_head: str, connection: str, bodiless: bool
    ) -> tuple[int, int, bytes, bytes]:
        """As :meth:`Renderer.render`, with the head of JSON up to the body's length."""
        body: bytes = self.body
        head = f"{json_head}{len(body)}\r\n{self.lines}{connection}\r\n".encode()
        return 200, len(body), head if bodiless else head + body, b""


class Live(BaseResponse):
    """An answer that is made while it is sent: a stream, events."""

    __slots__ = ("__weakref__", "done", "headers", "status")
    done: Callable[[], Any] | None
    """Called when all is sent, or its client has left."""

    def send(self, lane: Any, request: Any) -> Coroutine[Any, Any, None]:
        """Send all of it, and do what is due after an answer."""
        raise NotImplementedError


def safe_header(name: str, value: str) -> str:
    """Return `value` when the pair may be sent; ValueError says what is wrong with it."""
    # Names are few, and what is printable has no control character.
    if type(name) is str and name in _SEEN and type(value) is str and value.isprintable():
        return value
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError(f"header {name!r}: {value!r}: expected text")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r}: expected a token of RFC 9110 section 5.6.2")
    if _UNSAFE.search(value):
        raise ValueError(f"header {name}: {value!r}: control characters are not allowed")
    if name.lower() in _OURS:
        raise ValueError(f"header {name}: is set by the server")
    if len(_SEEN) < _MANY and type(name) is str:
        _SEEN.add(name)
    return value


class Renderer:
    """Turns what endpoints return into bytes; keeps the Date of the current second."""

    __slots__ = ("_date", "_takes_structs", "_try_harder", "dumps", "json_head",
                 "ok_head", "text_head")

    def __init__(self, dumps: Callable[[Any], str | bytes]) -> None:
        self.dumps = dumps
        self._try_harder = with_fallback(dumps)
        self._takes_structs = takes_structs(dumps)
        self._date = ""
        self.json_head = self.ok_head = self.text_head = ""
        self.tick()

    def tick(self) -> None:
        """Renew the Date; called once a second (RFC 9110 6.6.1)."""
        self._date = f"Date: {formatdate(usegmt=True)}\r\n"
        self.ok_head = f"HTTP/1.1 200 OK\r\n{self._date}"
        self.json_head, self.text_head = [
            f"{self.ok_head}Content-Type: {kind}\r\nContent-Length: "
            for kind in ("application/json", _TEXT)]

    @property
    def date(self) -> str:
        """The value of the Date field of this second."""
        return self._date[6:-2]

    def encode_json(self, data: Any) -> bytes:
        """The JSON of `data` in UTF-8."""
        if type(data) is RowSet:
            data = data.structs() if self._takes_structs else data.plain()
        elif type(data) is not dict and _is_model(data):
            encoded = _encode_model(data)
            if encoded is not None:
                return encoded
        try:
            text = self.dumps(data)
        except TypeError:
            text = self._try_harder(data)
        return text.encode() if isinstance(text, str) else text

    def render(
        self, result: Any, connection: str, bodiless: bool
    ) -> tuple[int, int, bytes, bytes]:
        """Return status, length of the body, and the answer: all of it, and a long body's rest.

        `connection` is a ready header line or empty; `bodiless` is for HEAD: the headers
        are those of the full answer, the body stays away (RFC 9110 9.3.2).
        """
        if type(result) in _PLAIN:
            body, kind = self._body(result)
            head = (
                f"HTTP/1.1 200 OK\r\n{self._date}Content-Type: {kind}\r\n"
                f"Content-Length: {len(body)}\r\n{connection}\r\n"
            ).encode()
            size = len(body)
            if bodiless or size >= _JOINED:
                return 200, size, head, b"" if bodiless else body
            return 200, size, head + body, b""
        if type(result) is Encoded:
            return result.render(self.json_head, connection, bodiless)
        if type(result) is Response:
            status = result.status
            body, kind = self._body(result.body)
            lines = lines_of(result, "" if status in _BODILESS else kind)
        else:
            status, headers, body = self._parts(result)
            lines = _joined(headers)
        if status in _BODILESS or status == 205:
            body = b""
        # RFC 9110 15.3.6: a 205 says that nothing follows.
        length = "" if status in _BODILESS else f"Content-Length: {len(body)}\r\n"
        first = f"HTTP/1.1 {status:d} {reason_of(status)}\r\n"
        head = f"{first}{self._date}{lines}{length}{connection}\r\n".encode("latin-1", "replace")
        return status, len(body), head if bodiless else head + body, b""

    def head(self, answer: Live, framing: str) -> bytes:
        """The head of an answer whose body follows, with the header lines of `framing`.

        Raises ValueError for a header that would break the message.
        """
        pairs = [(name, safe_header(name, value)) for name, value in answer.headers]
        lines = "".join([f"{name}: {value}\r\n" for name, value in pairs])
        first = f"HTTP/1.1 {answer.status:d} {reason_of(answer.status)}\r\n"
        return f"{first}{self._date}{lines}{framing}\r\n".encode("latin-1", "replace")

    def parts(self, result: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of what an endpoint returned. Raises what a render would."""
        return self._parts(result)

    def _parts(self, result: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        if isinstance(result, Response):
            body, content_type = self._body(result.body)
            if result.status in _BODILESS:
                content_type = ""
            return result.status, _with_type(result.safe_headers(), content_type), body
        if isinstance(result, HTTPError):
            headers = [(name, safe_header(name, value)) for name, value in result.headers.items()]
            headers.append(("Content-Type", "application/problem+json"))
            return result.status, headers, self.encode_json(result.document())
        if result is None:
            return 204, [], b""
        refuse_tuple(result)
        if isinstance(result, Live):
            raise TypeError(f"{result!r}: has no bytes before it is sent")
        if is_aiohttp(result):
            return _from_aiohttp(result)
        body, content_type = self._body(result)
        return 200, [("Content-Type", content_type)], body

    def _body(self, body: Any) -> tuple[bytes, str]:
        if type(body) is dict:
            try:
                text = self.dumps(body)
            except TypeError:
                text = self._try_harder(body)
            return text.encode() if isinstance(text, str) else text, "application/json"
        if type(body) is bytes:
            return body, "application/octet-stream"
        if body is None:
            return b"", ""
        if isinstance(body, bytes | bytearray | memoryview):
            return bytes(body), "application/octet-stream"
        if isinstance(body, str):
            return body.encode(), _TEXT
        return self.encode_json(body), "application/json"


def _with_type(headers: list[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
    if not kind or any(name.lower() == "content-type" for name, _ in headers):
        return headers
    return [*headers, ("Content-Type", kind)]


def lines_of(answer: Response, kind: str = "") -> str:
    """The header lines of `answer`. Raises ValueError for one that would break the message."""
    try:
        return _lines(tuple(answer.headers), kind)
    except TypeError:  # a header that is not even text
        return _lines.__wrapped__(tuple(answer.headers), kind)


@lru_cache(256)
def _lines(headers: tuple[tuple[str, str], ...], kind: str) -> str:
    for name, value in headers:
        safe_header(name, value)
    return _joined(_with_type(list(headers), kind))


def _joined(headers: list[tuple[str, str]]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    # What a name or value of whatever kind must never have, whoever made it.
    count = len(headers)
    if lines.count("\n") != count or lines.count("\r") != count or "\0" in lines:
        raise ValueError(f"headers {headers!r}: control characters are not allowed")
    return lines


def _is_model(data: Any) -> bool:
    """Whether `data` is a msgspec Struct or a dataclass, or begins with one."""
    if isinstance(data, list) and data:
        data = data[0]
    return hasattr(data, "__struct_fields__") or hasattr(data, "__dataclass_fields__")


def _encode_model(data: Any) -> bytes | None:
    try:
        import msgspec
    except ImportError:
        return None  # a dataclass: slower without
    return msgspec.json.encode(data, enc_hook=to_plain)


def refuse_tuple(result: Any) -> None:
    """Raise TypeError for a tuple: whoever returns ``data, 404`` means no JSON array."""
    if type(result) is tuple:
        raise TypeError(
            f"an endpoint returned the tuple {ascii(result)[:100]}: for a status expected "
            "Response(status, body=data), raise HTTPError(status) or status=… on its route; for "
            "a JSON array a list")


def is_usual(result: Any) -> bool:
    """Whether `result` is of the types that are data and nothing else."""
    return type(result) in _PLAIN


def is_aiohttp(result: Any) -> bool:
    """Whether `result` is an ``aiohttp.web.Response``, told without importing aiohttp."""
    return any(kind.__module__ == "aiohttp.web_response" for kind in type(result).__mro__)


def _from_aiohttp(result: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    # A StreamResponse, a FileResponse too, has no body: it writes one, to a request of aiohttp.
    body = getattr(result, "body", result)
    if body is not None and not isinstance(body, bytes | bytearray):
        raise TypeError(f"{result!r}: only answers with a ready body leave a direct endpoint")
    headers = [
        (name, safe_header(name, value)) for name, value in result.headers.items()
        if name.lower() not in _OURS
    ]
    headers += [
        ("Set-Cookie", safe_header("Set-Cookie", cookie.output(header="").strip()))
        for cookie in result.cookies.values()
    ]
    return result.status, headers, bytes(body or b"")
