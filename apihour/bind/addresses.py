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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apihour.errors import AddressError
from apihour.plugins import SocketKind

if TYPE_CHECKING:
    from apihour.bind.address_options import AddressOptions, Family
    from apihour.bind.tls_options import TLSOptions
    from apihour.limits.bind_options import BindOptions

__all__ = ["BindAddress", "is_name", "parse_address", "parse_bind"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_EXPECTED = (
    "HOST:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME, udp://HOST:PORT, fd://N or systemd:NAME"
)


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
        if self == BindAddress(self.family, self.host, self.port):
            return self.bare
        from apihour.bind.address_options import written  # read where there are options only

        return f"{self.bare}?{written(self)}"

    @property
    def bare(self) -> str:
        """The address without its options."""
        if self.family in ("tcp", "udp"):
            host = f"[{self.host}]" if ":" in self.host else self.host
            return ("udp://" if self.family == "udp" else "") + f"{host}:{self.port}"
        if self.family == "fd":
            return f"fd://{self.port}"
        return f"{self.family}:{self.host}"

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
    family, host, port = _parse_place(text, body)
    options: AddressOptions = {}
    if query:
        from apihour.bind.address_options import parse_options  # read where there are some only

        options = parse_options(text, family, query)
    return BindAddress(family, host, port, **options)


def _parse_place(text: str, body: str) -> tuple[Family, str, int]:
    if body.startswith(("unix:", "fd://", "systemd:")):
        from apihour.bind.address_options import parse_place  # read where it is one of these only

        return parse_place(text, body)
    family: Family = "udp" if body.startswith("udp://") else "tcp"
    host, port = _parse_host(text, body.removeprefix("udp://").removeprefix("tcp://"))
    return family, host, port


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
