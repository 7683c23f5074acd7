"""The text of a bind, and what it means: parsing only, nothing is opened here.

========================  ===========================================================
``127.0.0.1:8000``        TCP over IPv4; ``:8000`` and ``*:8000`` mean every interface
``[::1]:8000``            TCP over IPv6
``udp://127.0.0.1:53``    UDP
``unix:/run/x.sock``      unix stream socket; ``?mode=660`` sets its permissions
``unix:@name``            abstract unix socket (unix(7), Linux only)
``fd://3``                a descriptor the daemon inherited
``systemd:http``          a socket systemd passed under that name (sd_listen_fds(3))
========================  ===========================================================

Options follow a question mark: ``mode`` (octal), ``backlog`` (connections waiting),
``limit`` (open connections per worker), ``reuse_port`` (one socket per worker), ``sticky`` (the
same, and each client's address has one of them), ``tls``
(TLS; see apihour.bind.tls_options for what may stand beside it), ``proxy=NETWORKS`` (connections
come from those, and begin with a PROXY header), and those of ``apihour.limits.bind_options``,
about connections.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import parse_qsl, quote

from apihour.errors import AddressError
from apihour.plugins import SocketKind

if TYPE_CHECKING:
    from apihour.bind.tls_options import TLSOptions
    from apihour.limits.bind_options import BindOptions

__all__ = ["BindAddress", "is_name", "parse_address", "parse_bind"]

Family = Literal["tcp", "udp", "unix", "fd", "systemd"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_EXPECTED = (
    "HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME, udp://HOST:PORT, fd://N or systemd:NAME"
)
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


class _Options(TypedDict, total=False):
    mode: int
    backlog: int
    limit: int
    reuse_port: bool
    sticky: bool
    tls: TLSOptions | None
    proxy: str
    options: BindOptions


@dataclass(frozen=True)
class BindAddress:
    """Where one server listens. ``host`` is the path or name for unix, systemd and abstract.

    ``tls`` is None for a plain bind.
    """

    family: Family
    host: str
    port: int = 0
    mode: int | None = None
    backlog: int | None = None
    limit: int | None = None
    reuse_port: bool = False
    tls: TLSOptions | None = None
    proxy: str | None = None
    options: BindOptions | None = None
    sticky: bool = False

    @property
    def kind(self) -> SocketKind:
        """What kind of server the address wants; ``fd`` and ``systemd`` ones are looked at."""
        return "datagram" if self.family == "udp" else "stream"

    @property
    def is_path(self) -> bool:
        """Whether it is a socket file in the file system."""
        return self.family == "unix" and not self.host.startswith("@")

    @property
    def place(self) -> tuple[str, str, int]:
        """What must differ between two binds: options do not count."""
        return self.family, self.host, self.port

    def __str__(self) -> str:
        return self.bare + self._query()

    @property
    def bare(self) -> str:
        """The address without its options."""
        if self.family in ("tcp", "udp"):
            host = f"[{self.host}]" if ":" in self.host else self.host
            return ("udp://" if self.family == "udp" else "") + f"{host}:{self.port}"
        if self.family == "fd":
            return f"fd://{self.port}"
        return f"{self.family}:{self.host}"

    def _query(self) -> str:
        parts = []
        if self.mode is not None:
            parts.append(f"mode={self.mode:o}")
        if self.backlog is not None:
            parts.append(f"backlog={self.backlog}")
        if self.limit is not None:
            parts.append(f"limit={self.limit}")
        if self.reuse_port:
            parts.append("sticky" if self.sticky else "reuse_port")
        if self.tls is not None:
            parts += self.tls.parts()
        if self.proxy is not None:
            parts.append("proxy=" + quote(self.proxy, safe="/,:*"))
        if self.options is not None:
            parts += [f"{key}={text}" for key, text in self.options.texts().items()]
        return "?" + "&".join(parts) if parts else ""


def is_name(text: str) -> bool:
    """Whether a server may be called so."""
    return _NAME.match(text) is not None


def parse_bind(text: str) -> tuple[str | None, BindAddress]:
    """Split ``name=address``; the name is None when there is none. Raises AddressError."""
    name, separator, rest = text.partition("=")
    if separator and is_name(name):
        return name, parse_address(rest)
    return None, parse_address(text)


def parse_address(text: str) -> BindAddress:
    """Return what the text means. Raises AddressError naming the text and what was expected."""
    if not isinstance(text, str) or not text.strip():
        raise AddressError(text, _EXPECTED)
    body, _, query = text.strip().partition("?")
    options = _parse_options(text, query)
    if options.get("sticky"):
        _see_sticky(text, body, options)
    if body.startswith("unix:"):
        return _parse_unix(text, body.removeprefix("unix:"), options)
    if "mode" in options:
        raise AddressError(text, "option 'mode' on unix:PATH only")
    if body.startswith("fd://"):
        number = body.removeprefix("fd://")
        if not _is_number(number):
            raise AddressError(text, "fd://N with the number of an open descriptor")
        return BindAddress("fd", "", int(number), **options)
    if body.startswith("systemd:"):
        name = body.removeprefix("systemd:")
        if not name:
            raise AddressError(text, "systemd:NAME with a FileDescriptorName")
        return BindAddress("systemd", name, **options)
    family: Family = "udp" if body.startswith("udp://") else "tcp"
    for option in {"tls", "proxy"} & options.keys():
        if family == "udp":
            raise AddressError(text, f"option {option!r} on stream binds only")
    _see_place(text, family, options)
    host, port = _parse_host(text, body.removeprefix("udp://").removeprefix("tcp://"))
    return BindAddress(family, host, port, **options)


def _parse_unix(text: str, path: str, options: _Options) -> BindAddress:
    path = path.removeprefix("//")
    if not path or path == "@":
        raise AddressError(text, "unix:PATH or unix:@NAME")
    if len(path.encode()) > _UNIX_PATH_MAXIMUM:
        raise AddressError(text, f"a path of at most {_UNIX_PATH_MAXIMUM} bytes")
    if options.get("reuse_port"):
        raise AddressError(text, "option 'reuse_port' on TCP and UDP only")
    _see_place(text, "unix", options)
    return BindAddress("unix", path, **options)


def _parse_host(text: str, body: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]+)\]:(\d{1,5})|([^\[\]:/\s=]*):(\d{1,5})", body)
    if match is None and "=" in body:
        raise AddressError(text, f"NAME=ADDRESS, a name like 'http' and {_EXPECTED}")
    if match is None:
        raise AddressError(text, _EXPECTED)
    host, port = (match[1], match[2]) if match[1] else (match[3], match[4])
    if int(port) > 65535:
        raise AddressError(text, "a port from 0 to 65535")
    return ("0.0.0.0" if host in ("", "*") else host), int(port)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", text) is not None and int(text) <= _MOST


def _parse_options(text: str, query: str) -> _Options:
    options: _Options = {}
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
    return options


def _see_sticky(text: str, body: str, options: _Options) -> None:
    if body.startswith(("unix:", "fd://", "systemd:")):
        raise AddressError(text, "option 'sticky' on HOST:PORT and udp://HOST:PORT only")
    if "proxy" in options:  # the kernel knows its address, and no client's
        raise AddressError(text, "option 'sticky' without 'proxy': by address all clients of a "
                                 "proxy are one; have the proxy choose by cookie or address")
    if sys.platform != "linux":
        raise AddressError(text, "option 'sticky' on Linux only")


def _see_place(text: str, family: Family, options: _Options) -> None:
    if "options" in options and (why := options["options"].misplaced(family, "proxy" in options)):
        raise AddressError(text, why)


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
