"""Cookies that come, and that are set: one Set-Cookie field each (RFC 6265, and 6265bis).

Rules:

- What a browser would drop, or what would end up in another attribute, is refused here.
- What comes is read in one pass, as a browser means it: the library's own reader takes a third
  of a second for 8 KB of quoted backslashes in CPython 3.11, and drops values such as ``{"a":1}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["expired_cookie", "read_cookies", "set_cookie_value"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 6265 4.1.1: cookie-octet; all else travels encoded, or not at all.
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]+")
# What clients send as a name: no control, space, quote or separator.
_NAME = re.compile(r"[!#-+\--:<>-~]+")
# Python's own way to quote a value: an octal number, or a character behind a backslash.
_QUOTED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
_SAME_SITE = ("Lax", "Strict", "None")


def read_cookies(lines: Iterable[str]) -> dict[str, str]:
    """The cookies of Cookie fields by name, the last of a name; what has no name is left out."""
    found: dict[str, str] = {}
    for line in lines:
        for pair in line.split(";"):
            name, mark, value = pair.partition("=")
            name = name.strip(" \t")
            # RFC 2965's $Version and its like were never cookies.
            if mark and _NAME.fullmatch(name) and name[0] != "$":
                found[name] = _unquoted(value.strip(" \t"))
    return found


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value[0] == value[-1] == '"':
        return value
    value = value[1:-1]
    return _QUOTED.sub(_character, value) if "\\" in value else value


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 8)) if found[1] else found[2]


def set_cookie_value(
    name: str, value: str, *, max_age: int | None, path: str, domain: str | None,
    secure: bool, httponly: bool, samesite: str | None,
) -> str:
    """The value of a Set-Cookie field. Raises ValueError naming what browsers would not take."""
    _check(name, value, path, domain)
    if max_age is not None and type(max_age) is not int:
        raise ValueError(f"cookie {name}: max_age={max_age!r}: expected whole seconds")
    if samesite is not None and samesite not in _SAME_SITE:
        raise ValueError(f"cookie {name}: samesite={samesite!r}: expected one of "
                         f"{', '.join(_SAME_SITE)}")
    if samesite == "None" and not secure:
        raise ValueError(f"cookie {name}: samesite='None': expected secure=True beside it")
    _check_prefix(name, path, domain, secure)
    parts = [f"{name}={value}"]
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    if domain is not None:
        parts.append(f"Domain={domain}")
    parts.append(f"Path={path}")
    parts += [word for word, wanted in (("Secure", secure), ("HttpOnly", httponly)) if wanted]
    if samesite is not None:
        parts.append(f"SameSite={samesite}")
    return "; ".join(parts)


def expired_cookie(name: str, path: str, domain: str | None) -> str:
    """The value of a Set-Cookie field that makes a client forget a cookie."""
    is_secure = name.startswith(("__Host-", "__Secure-"))
    return set_cookie_value(name, "", max_age=0, path=path, domain=domain, secure=is_secure,
                            httponly=False, samesite=None)


def _check(name: str, value: str, path: str, domain: str | None) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"cookie name {name!r}: expected a token of RFC 9110 section 5.6.2")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(f"cookie {name}: its value has characters that no cookie has (spaces, "
                         "commas, semicolons, quotes, text beyond ASCII): expected it encoded, "
                         "by urllib.parse.quote or base64")
    if not _ATTRIBUTE.fullmatch(path) or not path.startswith("/"):
        raise ValueError(f"cookie {name}: path={path!r}: expected a path")
    if domain is not None and not _ATTRIBUTE.fullmatch(domain):
        raise ValueError(f"cookie {name}: domain={domain!r}: expected a name of a host")


def _check_prefix(name: str, path: str, domain: str | None, secure: bool) -> None:
    """RFC 6265bis 4.1.3: names that promise something are kept only where it is true."""
    if name.startswith("__Secure-") and not secure:
        raise ValueError(f"cookie {name}: expected secure=True, as its name says")
    if name.startswith("__Host-") and not (secure and path == "/" and domain is None):
        raise ValueError(f"cookie {name}: expected secure=True, path='/' and no domain, as its "
                         "name says")
