"""The lean request of the direct lane, with aiohttp's names.

Rules:

- The body is complete before the endpoint runs: ``await request.read()`` never waits. Not so
  where the route says ``stream_body=True``: ``connection.uploads`` has that request.
- Headers, query and cookies are parsed when first asked for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Generic
from urllib.parse import parse_qsl, unquote

from apihour_http.charsets import decoded
from apihour_http.cookies import read_cookies
from apihour_http.errors import HTTPError
from apihour_http.mapping import Form, Headers, Multi
from apihour_http.speed import compiled

if TYPE_CHECKING or compiled is None:
    from apihour_http.received import Received
else:
    Received = compiled.Received

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # of checkers; typing has defaults from 3.13 on

    C = TypeVar("C", default=Any)
else:
    from typing import TypeVar

    C = TypeVar("C")

__all__ = ["Request"]

_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# Form fields of one body at most: parsing them must not cost more than receiving them.
_MAX_FIELDS = 1000
# Bytes of a text field of a multipart form.
_MAX_FIELD = 1 << 20


class Request(Received, Generic[C]):
    """One request of the direct lane.

    ``match_info`` holds the path parameters, converted. ``container`` is the worker's
    container, None when served without one; ``request: Request[MyContainer]`` tells type
    checkers which. ``request["key"]`` keeps values for the time of the request.
    """

    __slots__ = ("_cookies", "_headers", "_origin", "_query", "_state")

    # -- what was asked

    @property
    def method(self) -> str:
        """The method, upper case."""
        return self.verb.decode()

    @property
    def path_qs(self) -> str:
        """Path and query, as sent."""
        return self.target.decode("ascii", "replace")

    @property
    def raw_path(self) -> str:
        """The same as :attr:`path_qs`, as in aiohttp."""
        return self.path_qs

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(self.path_qs.partition("?")[0])

    @property
    def query_string(self) -> str:
        """The query, percent-decoded."""
        return unquote(self.path_qs.partition("?")[2].replace("+", " "))

    @property
    def query(self) -> Multi:
        """The query's parameters, decoded."""
        found: Multi | None = getattr(self, "_query", None)
        if found is None:
            found = self._query = self._parse_form(self.path_qs.partition("?")[2])
        return found

    @property
    def version(self) -> tuple[int, int]:
        """(1, 1), (1, 0), or (2, 0)."""
        if self.lane.http_version == "2.0":
            return (2, 0)
        return (1, 1) if self.modern else (1, 0)

    @property
    def keep_alive(self) -> bool:
        """Whether the client lets the connection stay open."""
        return self.keep

    # -- headers

    @property
    def headers(self) -> Headers:
        """The header fields, without regard to case."""
        try:
            return self._headers
        except AttributeError:
            self._headers: Headers = Headers(
                (name.decode("latin-1"), _text(value)) for name, value in self.raw_headers
            )
            return self._headers

    @property
    def host(self) -> str:
        """The host that was asked for, empty when a HTTP/1.0 client sent none.

        That of the Host header, or what a proxy that is believed says.
        """
        origin = self._told()
        if origin is not None and origin.host:
            return str(origin.host)
        return str(self.headers.get("Host", ""))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; of several with one name the last."""
        try:
            return self._cookies
        except AttributeError:
            self._cookies: dict[str, str] = read_cookies(self.headers.getall("Cookie", ()))
            return self._cookies

    @property
    def content_type(self) -> str:
        """The media type of the body, lower case, without parameters."""
        value = self.headers.get("Content-Type", "application/octet-stream")
        return value.partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The character set that Content-Type names, or None."""
        found = _CHARSET.search(self.headers.get("Content-Type", ""))
        return found.group(1) if found else None

    @property
    def content_length(self) -> int | None:
        """The length Content-Length declares, or None."""
        value = self.headers.get("Content-Length")
        return int(value) if value is not None else None

    # -- where it came from

    @property
    def container(self) -> C:
        """The worker's container; None where there is none, whatever its type was said to be."""
        container: C = self.lane.service.container
        return container

    @property
    def transport(self) -> Any:
        """The connection's transport, None once it is lost."""
        # Whoever takes it may close it: what was answered before goes out first.
        self.lane.flush()
        return self.lane.transport

    @property
    def remote(self) -> str | None:
        """The client's address without its port, None on a unix socket.

        Behind a proxy that is believed (``--forwarded-allow-ips``): what it says.
        """
        origin = self._told()
        if origin is not None and origin.remote:
            return str(origin.remote)
        return self.lane.remote()

    @property
    def secure(self) -> bool:
        """Whether the client speaks TLS: with us, or with a proxy that is believed."""
        origin = self._told()
        if origin is not None and origin.scheme:
            return bool(origin.scheme == "https")
        transport = self.lane.transport
        return transport is not None and transport.get_extra_info("sslcontext") is not None

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return "https" if self.secure else "http"

    def _told(self) -> Any:
        """What a proxy that is believed says of it, or None."""
        try:
            return self._origin
        except AttributeError:
            self._origin: Any = self.lane.origin(self.raw_headers)
            return self._origin

    # -- the body

    @property
    def body_exists(self) -> bool:
        """Whether a body was sent."""
        return bool(self.body)

    can_read_body = body_exists

    async def read(self) -> bytes:
        """The body."""
        return self.body

    async def text(self) -> str:
        """The body as text. Raises HTTPError 415 or 400 when it is none."""
        charset = self.charset or "utf-8"
        try:
            return decoded(self.body, charset)
        except LookupError:
            raise HTTPError(415, f"charset {charset!r} is not known") from None
        except UnicodeDecodeError:
            raise HTTPError(400, f"the body is not {charset}") from None

    async def json(self, *, loads: Any = None) -> Any:
        """The body, decoded from JSON. Raises HTTPError 400 when it is none."""
        decode = loads or self.lane.service.options.loads
        try:
            return decode(await self.text())
        except (ValueError, RecursionError) as error:
            raise HTTPError(400, f"the body is not JSON: {error}") from None

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece: as it comes where the route says ``stream_body=True``.

        Raises HTTPError (408, 413, 400), or ClientGone, where it breaks off.
        """
        if self.body:
            yield self.body

    def is_multipart(self) -> bool:
        """Whether the body has parts, by its Content-Type."""
        return self.content_type.startswith("multipart/")

    def multipart(
        self, *, max_parts: int = _MAX_FIELDS, max_part: int | None = None
    ) -> AsyncIterator[Any]:
        """The parts of a multipart body, each a :class:`apihour_http.multipart.Part`.

        At most `max_parts`, each of at most `max_part` bytes. Raises HTTPError 415, 413 or 400.
        """
        from apihour_http.multipart import parts

        return parts(self, max_parts, max_part)

    async def post(
        self, *, max_parts: int = _MAX_FIELDS, max_field: int = _MAX_FIELD,
        max_file: int | None = None,
    ) -> Form:
        """The fields of a form, urlencoded or multipart: text, and UploadedFile.

        Files go to disk when they are larger than a megabyte. Of a multipart form there are at
        most `max_parts`, of `max_field` bytes, or `max_file` when it is one. Raises HTTPError
        415, 413 or 400.
        """
        if self.is_multipart():
            from apihour_http.multipart import collect

            return Form(await collect(self, max_parts, max_field, max_file))
        if not self.body:
            return Form()
        if self.content_type != "application/x-www-form-urlencoded":
            raise HTTPError(415, f"{self.content_type}: expected "
                            "application/x-www-form-urlencoded or multipart/form-data")
        return self._parse_form(await self.text())

    @staticmethod
    def _parse_form(text: str) -> Form:
        if "%" not in text and "+" not in text and text.count("&") < _MAX_FIELDS:
            # As below, without looking for what is not there.
            pairs = [part.partition("=") for part in text.split("&") if part]
            return Form([(name, value) for name, _, value in pairs])
        try:
            return Form(parse_qsl(
                text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="replace"))
        except ValueError:
            raise HTTPError(400, f"more than {_MAX_FIELDS} parameters") from None

    # -- what comes after the answer

    def after(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have a coroutine run once this request is answered, whatever the answer is.

        A server that drains waits for it; what it raises is logged. Raises TypeError for what
        is no coroutine.
        """
        self.lane.service.background.add(self, work)

    # -- values kept for the time of the request

    def __getitem__(self, key: Any) -> Any:
        return self._kept()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._kept()[key] = value

    def __contains__(self, key: Any) -> bool:
        return key in self._kept()

    def get(self, key: Any, default: Any = None) -> Any:
        """A value kept under `key`, or `default`."""
        return self._kept().get(key, default)

    def _kept(self) -> dict[Any, Any]:
        try:
            return self._state
        except AttributeError:
            self._state: dict[Any, Any] = {}
            return self._state

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path_qs!r}>"


def _text(value: bytes) -> str:
    """A field value as aiohttp gives it: UTF-8 where it is, other bytes escaped."""
    return value.rstrip(b" \t").decode("utf-8", "surrogateescape")
