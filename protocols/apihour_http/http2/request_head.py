"""What a request's header block must be before anybody sees it (RFC 9113 8.2, 8.3).

Rules:

- What is malformed by the protocol's own rules ends its stream; what HTTP/1 answers with a
  status (a field too long, a host that is none) is answered here as well, by the same checks.
- The rest of the house sees fields as HTTP/1 has them: ``:authority`` is ``host``, the first;
  crumbs of a cookie are one (8.2.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apihour_http.head import Fields
from apihour_http.http2.frame_bytes import PROTOCOL_ERROR, StreamBroken
from apihour_http.speed import compiled

__all__ = ["HeadJudge", "RequestHead2", "check_trailer_fields"]

_PSEUDO = {b":method": 0, b":scheme": 1, b":authority": 2, b":path": 3}
# 8.2.2: what only means something to one connection of HTTP/1.
_CONNECTION_ONLY = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_name = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
# 8.2.1, and what RFC 9110 5.5 has no use for.
_FORBIDDEN = bytes([*range(9), *range(10, 32), 127])
_BLANKS = (b" ", b"\t")
_SLASH = ord("/")
# Names that were found good; one that invents new ones gains nothing.
_REMEMBERED = 512
_good_names: set[bytes] = set()


RequestHead2 = tuple[bytes, bytes, Fields, int]
"""A request's method, target and fields, as HTTP/1 would have them, and the bytes of all."""


if TYPE_CHECKING or compiled is None:

    class Judge:
        """What a judge remembers."""

        __slots__ = ("_authority", "_fields", "_size", "_tail")

        def judge(self, decoded: Fields) -> RequestHead2:
            """Judge the fields of a block. Raises StreamBroken for what is malformed."""
            return self.judge_any(decoded)

        def judge_any(self, decoded: Fields) -> RequestHead2:
            """Judge without the extension's help."""
            raise NotImplementedError
else:
    Judge = compiled.Judge


class HeadJudge(Judge):
    """Judges the heads of one connection; it remembers the fields of the last.

    Clients say the same again and again, but for the path: judged once.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self._tail: Fields | None = None
        self._authority: bytes | None = None
        self._fields: Fields = []
        self._size = 0

    def judge_any(self, decoded: Fields) -> RequestHead2:
        """Judge without the extension's help. Raises StreamBroken for what is malformed."""
        pseudo: list[bytes | None] = [None, None, None, None]
        count = 0
        for name, value in decoded:
            place = _PSEUDO.get(name)
            if place is None:
                break
            if pseudo[place] is not None:
                raise _malformed("a pseudo-header twice")
            pseudo[place] = value
            count += 1
        method, scheme, authority, path = pseudo
        if method is None or not _is_token(method):
            raise _malformed("no method")
        if method == b"CONNECT":
            if scheme is not None or path is not None or not authority:
                raise _malformed("CONNECT: expected an authority alone")
            path = authority  # refused as in HTTP/1
        elif not scheme or not path or (path[0] != _SLASH and path != b"*"):
            raise _malformed("expected a scheme, and a path that begins with /")
        del decoded[:count]
        if len(path.translate(None, _FORBIDDEN)) != len(path):
            raise _malformed("a control character in the path")
        if decoded != self._tail or authority != self._authority:
            self._remember(decoded, authority, scheme or b"")
        return method, path, self._fields, self._size + len(path)

    def _remember(self, tail: Fields, authority: bytes | None, scheme: bytes) -> None:
        _check_values(b"\n".join((authority or b"", scheme)), 1)
        size, fields = _check_fields(tail), _with_host(tail, authority)
        self._tail, self._authority, self._fields, self._size = tail, authority, fields, size


def check_trailer_fields(decoded: Fields) -> None:
    """Judge what comes after a body. Raises StreamBroken for what is malformed (8.1)."""
    _check_fields(decoded)


def _check_fields(fields: Fields) -> int:
    """Look at names and values; the sum of their lengths is returned."""
    for name, value in fields:
        if name not in _good_names:
            _check_name(name)
        if name == b"te" and value.lower() != b"trailers":
            raise _malformed("te: expected trailers")
    values = b"\n".join([value for _, value in fields])
    _check_values(values, max(0, len(fields) - 1))
    return len(values) + sum([len(name) for name, _ in fields])


def _check_name(name: bytes) -> None:
    if not _is_name(name) or name in _CONNECTION_ONLY:
        raise _malformed(f"field {name[:40]!a}")
    if len(_good_names) >= _REMEMBERED:
        _good_names.clear()
    if len(name) < 64:
        _good_names.add(name)


def _check_values(values: bytes, breaks: int) -> None:
    """`values` are joined by as many line feeds as `breaks` says: there must be no more."""
    if len(values.translate(None, _FORBIDDEN)) != len(values) - breaks:
        raise _malformed("a control character in a field")
    if values[:1] in _BLANKS or values[-1:] in _BLANKS or b" \n" in values or (
            b"\n " in values or b"\t\n" in values or b"\n\t" in values):
        raise _malformed("white space around a field's value")


def _with_host(fields: Fields, authority: bytes | None) -> Fields:
    """The fields with one Host, which 8.3.1 has be the authority, and one Cookie."""
    names = [name for name, _ in fields]
    if b"cookie" in names and names.count(b"cookie") > 1:
        crumbs = b"; ".join([value for name, value in fields if name == b"cookie"])
        fields = [item for item in fields if item[0] != b"cookie"] + [(b"cookie", crumbs)]
    if authority is None:
        return fields
    if b"host" in names:
        hosts = [value for name, value in fields if name == b"host"]
        if hosts != [authority]:
            raise _malformed("host: expected what :authority says")
        return fields
    return [(b"host", authority), *fields]


def _malformed(reason: str) -> StreamBroken:
    return StreamBroken(PROTOCOL_ERROR, reason)
