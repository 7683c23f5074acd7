"""What a request head must be before anybody sees it: the checks llhttp leaves to us.

Rules, the same for both lanes; each refusal is a :class:`BadRequest`:

- exactly one Host in HTTP/1.1, not empty, no list, no user information (RFC 9112 3.2);
- Transfer-Encoding is exactly ``chunked``, in HTTP/1.1, never beside Content-Length
  (RFC 9112 6.1: what a proxy in front could read differently is refused, not mended);
- a target in origin form, absolute form or ``*`` with OPTIONS, in visible ASCII, and no
  CONNECT, which only proxies answer (RFC 9112 3.2);
- fields that decide meaning appear once; a trailer that would frame or route is refused,
  others are dropped, never merged into the header (RFC 9110 6.5.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apihour_http.errors import BadRequest
from apihour_http.speed import compiled

__all__ = [
    "BODY", "CONNECTION", "CONTENT_LENGTH", "EXPECT", "FORWARDED", "HOST", "TE",
    "TRANSFER_ENCODING", "UPGRADE", "Fields", "HeadChecker", "is_host",
]

Fields = list[tuple[bytes, bytes]]
"""The fields of a head or a trailer section, in the order received (RFC 9110 5)."""

HOST = 1
CONTENT_LENGTH = 2
TRANSFER_ENCODING = 4
CONNECTION = 8
EXPECT = 16
UPGRADE = 32
CONTENT_TYPE = 64
USER_AGENT = 128
WEBSOCKET_OLD = 256
ENCODING = 512
TE = 1024
FORWARDED = 2048
BODY = CONTENT_LENGTH | TRANSFER_ENCODING

_ONCE = HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONTENT_TYPE | USER_AGENT
_LOOKED_AT = TRANSFER_ENCODING | CONTENT_LENGTH | WEBSOCKET_OLD
_KINDS = {
    b"host": HOST, b"content-length": CONTENT_LENGTH, b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION, b"expect": EXPECT, b"upgrade": UPGRADE,
    b"content-type": CONTENT_TYPE, b"user-agent": USER_AGENT,
    b"sec-websocket-key1": WEBSOCKET_OLD, b"content-encoding": ENCODING, b"te": TE,
    **dict.fromkeys((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
                     b"x-forwarded-port"), FORWARDED),
}
_FORBIDDEN_TRAILERS = frozenset({b"host", b"content-length", b"transfer-encoding"})
# ": " and the line's end count, as in gunicorn's limit_request_field_size.
_PUNCTUATION = 4
# Spellings and hosts remembered at most: a peer that invents new ones gains nothing.
_REMEMBERED = 512

# RFC 3986 3.2.2: a registered name, an IPv4 or a bracketed IPv6 address; then a port.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]|[A-Za-z0-9._~!$&'()*+;=%-]+)"
                   rb"(?::[0-9]{0,5})?")
_TARGET = re.compile(rb"[!-~]+")
_ORIGIN = re.compile(rb"/[!\"$-~]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HeadChecker:
    """Checks heads against the rules and the limits; one per server, it remembers spellings."""

    __slots__ = ("_hosts", "_kinds", "max_field", "max_fields", "max_line")

    def __init__(self, max_line: int, max_field: int, max_fields: int) -> None:
        self.max_line = max_line
        self.max_field = max_field
        self.max_fields = max_fields
        self._kinds: dict[bytes, int] = {}
        self._hosts: set[bytes] = set()

    def check(self, fields: list[tuple[bytes, bytes]], large: bool) -> int:
        """Return the special kinds among `fields`, or raise BadRequest.

        `large` says that the head may exceed a limit; sizes are not looked at otherwise.
        """
        kinds = self._kinds
        seen = 0
        for name, value in fields:
            try:
                kind = kinds[name]
            except KeyError:
                kind = self._classify(name)
            if kind:
                if seen & kind & _ONCE:
                    raise BadRequest(f"more than one {_show(name)} header")
                seen |= kind
                if kind == HOST:
                    if value not in self._hosts:
                        self.check_host(value)
                elif kind & _LOOKED_AT:
                    _check_framing(kind, value)
        if seen & BODY == BODY:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if large or len(fields) > self.max_fields:
            self._check_sizes(fields)
        return seen

    def _classify(self, name: bytes) -> int:
        if not _TOKEN.fullmatch(name):
            raise BadRequest(f"header name {_show(name)} is not a token")
        if len(self._kinds) >= _REMEMBERED:
            self._kinds.clear()
        kind = self._kinds[name] = _KINDS.get(name.lower(), 0)
        return kind

    def check_host(self, value: bytes) -> None:
        """Raise BadRequest unless `value` is one host, with or without a port."""
        if not _HOST.fullmatch(value.rstrip(b" \t")):
            raise BadRequest(f"Host {_show(value)}: expected one host name, with or without port")
        if len(self._hosts) >= _REMEMBERED:
            self._hosts.clear()
        self._hosts.add(value)

    def check_target(self, method: bytes, target: bytes) -> bytes:
        """Return the origin form of `target`; raise BadRequest for what is none."""
        if method == b"CONNECT":
            raise BadRequest("CONNECT is for proxies", 405)
        if _ORIGIN.fullmatch(target):
            return target
        if not _TARGET.fullmatch(target):
            raise BadRequest("the request target has characters that must be encoded")
        # A fragment is not for servers; clients that send it are forgiven, it is dropped.
        target = target.partition(b"#")[0]
        if target.startswith(b"/"):
            return target
        if target == b"*":
            if method != b"OPTIONS":
                raise BadRequest("the target * is for OPTIONS")
            return target
        found = _ABSOLUTE.match(target)
        if found is None:
            raise BadRequest(f"request target {_show(target)}: expected /path or http://host/path")
        self.check_host(found.group(1))
        rest = target[found.end():]
        return rest if rest.startswith(b"/") else b"/" + rest

    def _check_sizes(self, fields: list[tuple[bytes, bytes]]) -> None:
        if len(fields) > self.max_fields:
            raise BadRequest(f"more than {self.max_fields} header fields", 431)
        for name, value in fields:
            if len(name) + len(value) + _PUNCTUATION > self.max_field:
                raise BadRequest(f"a header field over {self.max_field} bytes", 431)

    def check_trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Raise BadRequest when a trailer frames, routes or authorises (RFC 9110 6.5.1)."""
        self._check_sizes(fields)
        for name, _ in fields:
            if not _TOKEN.fullmatch(name) or name.lower() in _FORBIDDEN_TRAILERS:
                raise BadRequest(f"{_show(name)} is not allowed in a trailer")


if TYPE_CHECKING or compiled is None:

    def lowered(fields: Fields) -> Fields:
        """Names in lower case, and values without white space behind them (RFC 9110 5.5)."""
        return [(name.lower(), value.rstrip(b" \t")) for name, value in fields]
else:
    lowered = compiled.lowered


def is_host(value: bytes) -> bool:
    """Whether `value` is one host, with or without a port, and nothing else."""
    return _HOST.fullmatch(value) is not None


def _check_framing(kind: int, value: bytes) -> None:
    if kind == TRANSFER_ENCODING:
        if value.strip(b" \t").lower() != b"chunked":
            raise BadRequest(f"Transfer-Encoding {_show(value)}: expected chunked", 501
                             if value.strip(b" \t").lower().endswith(b"chunked") else 400)
    elif kind == CONTENT_LENGTH:
        if not value.strip(b" \t").isdigit():
            raise BadRequest(f"Content-Length {_show(value)}: expected a number")
    else:
        raise BadRequest("this draft of WebSocket is not spoken")


def _show(value: bytes) -> str:
    """A peer's bytes, made fit to print: short, and without control characters."""
    return ascii(value[:60].decode("latin-1"))
