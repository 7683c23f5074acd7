"""What the text of a bind may say beside ``HOST:PORT``: other places, and options.

Rule: read by binds that say it; see apihour.bind.addresses for what there is.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import parse_qsl, quote

from apihour.errors import AddressError

if TYPE_CHECKING:
    from apihour.bind.tls_options import TLSOptions
    from apihour.limits.bind_options import BindOptions

__all__ = ["AddressOptions", "Family", "parse_options", "parse_place", "written"]

Family = Literal["tcp", "udp", "unix", "fd", "systemd"]
_OPTIONS = (
    "mode=OCTAL, backlog=N, limit=N, reuse_port, sticky, tls, tls=FILE, key=FILE, ocsp=FILE, "
    "tls=acme, domains=NAMES, tls=modern, ca=FILE, clients=required|optional|none, proxy=NETWORKS, "
    "per_address=N, rate=N/s, over=wait|close, idle=TIME, min_rate=BYTES, keepalive=TIME or "
    "nodelay=no"
)
_ABOUT_TLS = ("tls", "key", "ocsp", "domains", "ca", "clients")
_ABOUT_CONNECTIONS = ("per_address", "rate", "over", "idle", "min_rate", "keepalive", "nodelay")
_MOST = 2**31 - 1  # what the system calls take for a descriptor and a backlog
_UNIX_PATH_MAXIMUM = 107  # bytes of sun_path less its NUL, unix(7)


class AddressOptions(TypedDict, total=False):
    """The fields of a BindAddress that are options."""

    mode: int
    backlog: int
    limit: int
    reuse_port: bool
    sticky: bool
    tls: TLSOptions | None
    proxy: str
    options: BindOptions


def parse_place(text: str, body: str) -> tuple[Family, str, int]:
    """Family, host and port of what is no ``HOST:PORT``. Raises AddressError."""
    scheme, _, rest = body.partition(":")
    if scheme == "fd":
        number = rest.removeprefix("//")
        if not _is_number(number):
            raise AddressError(text, "fd://N with the number of an open descriptor")
        return "fd", "", int(number)
    if scheme == "systemd":
        if not rest:
            raise AddressError(text, "systemd:NAME with a FileDescriptorName")
        return "systemd", rest, 0
    path = rest.removeprefix("//")
    if not path or path == "@":
        raise AddressError(text, "unix:PATH or unix:@NAME")
    if len(path.encode()) > _UNIX_PATH_MAXIMUM:
        raise AddressError(text, f"a path of at most {_UNIX_PATH_MAXIMUM} bytes")
    return "unix", path, 0


def parse_options(text: str, family: Family, query: str) -> AddressOptions:
    """What stands behind the question mark. Raises AddressError."""
    options: AddressOptions = {}
    tls: list[tuple[str, str]] = []
    about_connections: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "reuse_port" and value in ("", "1", "true"):
            options["reuse_port"] = True
        elif key == "sticky" and value in ("", "1", "true"):
            options["reuse_port"] = options["sticky"] = True
        elif key == "mode" and re.fullmatch(r"0?o?[0-7]{3}", value):
            options["mode"] = int(value.replace("o", ""), 8)
        elif key == "backlog" and _is_number(value) and int(value) > 0:
            options["backlog"] = int(value)
        elif key == "limit" and _is_number(value) and int(value) > 0:
            options["limit"] = int(value)
        elif key in _ABOUT_TLS:
            tls.append((key, value))
        elif key == "proxy":
            options["proxy"] = _trusted(text, value)
        elif key in _ABOUT_CONNECTIONS:
            about_connections[key] = value
        else:
            found = f"{key}={value}" if value else key
            raise AddressError(text, f"the options {_OPTIONS}, not {found!r}")
    if tls:
        options["tls"] = _tls(text, tls)
    if about_connections:
        options["options"] = _about(text, about_connections)
    _see_together(text, family, options)
    return options


def _see_together(text: str, family: Family, options: AddressOptions) -> None:
    """Raise AddressError for options that this place has not, or that exclude each other."""
    if options.get("sticky"):
        _see_sticky(text, family, options)
    if "mode" in options and family != "unix":
        raise AddressError(text, "option 'mode' on unix:PATH only")
    if options.get("reuse_port") and family == "unix":
        raise AddressError(text, "option 'reuse_port' on TCP and UDP only")
    for option in {"tls", "proxy"} & options.keys():
        if family == "udp":
            raise AddressError(text, f"option {option!r} on stream binds only")
    if family not in ("fd", "systemd") and "options" in options:
        why = options["options"].misplaced(family, "proxy" in options)
        if why:
            raise AddressError(text, why)


def _see_sticky(text: str, family: Family, options: AddressOptions) -> None:
    if family not in ("tcp", "udp"):
        raise AddressError(text, "option 'sticky' on HOST:PORT and udp://HOST:PORT only")
    if "proxy" in options:  # the kernel knows its address, and no client's
        raise AddressError(text, "option 'sticky' without 'proxy': by address all clients of a "
                                 "proxy are one; have the proxy choose by cookie or address")
    if sys.platform != "linux":
        raise AddressError(text, "option 'sticky' on Linux only")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", text) is not None and int(text) <= _MOST


def _about(text: str, given: dict[str, str]) -> BindOptions:
    from apihour.limits.bind_options import parse_options  # read by binds that ask something only

    try:
        return parse_options(given)
    except ValueError as error:
        raise AddressError(text, str(error)) from None


def _tls(text: str, given: list[tuple[str, str]]) -> TLSOptions | None:
    from apihour.bind.tls_options import parse_tls  # read by binds with TLS only

    try:
        return parse_tls(given)
    except ValueError as error:
        raise AddressError(text, str(error)) from None


def _trusted(text: str, value: str) -> str:
    from apihour.bind.trusted_proxies import TrustedProxies  # read by binds behind a proxy only

    try:
        TrustedProxies(value)
    except ValueError as error:
        raise AddressError(text, f"option 'proxy' of networks; {error}") from None
    return value


def written(address: Any) -> str:
    """The options of a BindAddress again, as they stand in its text."""
    parts = []
    if address.mode is not None:
        parts.append(f"mode={address.mode:o}")
    if address.backlog is not None:
        parts.append(f"backlog={address.backlog}")
    if address.limit is not None:
        parts.append(f"limit={address.limit}")
    if address.reuse_port:
        parts.append("sticky" if address.sticky else "reuse_port")
    if address.tls is not None:
        parts += address.tls.parts()
    if address.proxy is not None:
        parts.append("proxy=" + quote(address.proxy, safe="/,:*"))
    if address.options is not None:
        parts += [f"{key}={text}" for key, text in address.options.texts().items()]
    return "&".join(parts)
