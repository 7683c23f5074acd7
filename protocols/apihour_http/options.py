"""The options of an HTTP server: limits, timeouts and tastes, with their defaults.

Sizes are in bytes, times in seconds. The same limits hold for both lanes; those of
the fields are gunicorn's own defaults.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any

from apihour_http.forwarded.origin import DEFAULT_HEADERS, chosen
from apihour_http.forwarded.proxies import Proxies
from apihour_http.jsonable import encoder

__all__ = ["Options", "default_dumps", "default_loads"]

LOG_FORMATS = ("off", "common", "combined", "json")
PARSERS = ("auto", "httptools", "aiohttp")
_AT_LEAST_ONE = ("budget", "threads")  # with 0 nothing would ever be answered
_EXPECTED: dict[str, tuple[type | UnionType, str]] = {
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a text"),
}
"""By the annotation of a field: the types it takes, and what to call them."""


def default_dumps() -> Callable[[Any], str | bytes]:
    """ujson's encoder where ujson is installed, else the standard library's."""
    return encoder()


def default_loads() -> Callable[[Any], Any]:
    """ujson's decoder where ujson is installed, else the standard library's."""
    try:
        import ujson
    except ImportError:
        return json.loads
    return ujson.loads


@dataclass(frozen=True)
class Options:
    """What one server may be told; every field is a keyword of ``HTTPServer``."""

    keepalive: float | None = None
    """Silence after which an idle connection is closed; None: the host's, else 75."""
    linger: float | None = None
    """Silence a draining connection is granted; None: the host's, else ``keepalive``."""
    header_timeout: float = 10.0
    """A request head that takes longer is answered 408."""
    body_timeout: float = 10.0
    """Grace before ``body_rate`` counts."""
    body_rate: float = 500.0
    """Bytes a second a request body must keep up on average, else 408."""
    write_timeout: float = 60.0
    """A client that takes nothing of a waiting response for so long is cut off."""
    max_line: int = 8190
    """Longest request target; a longer one is answered 414. RFC 9110 4.1 asks for 8,000."""
    max_field: int = 8190
    """Longest header field, name and value together; a longer one is answered 431."""
    max_fields: int = 100
    """Most header fields of one request; more are answered 431."""
    max_head: int = 65536
    """Longest request head as a whole; a longer one is answered 431."""
    max_body: int = 1024 * 1024
    """Largest body of a direct endpoint, else 413 (an application has client_max_size)."""
    budget: int = 32
    """Pipelined requests one connection may have answered before others get a turn."""
    threads: int = 8
    """Threads for endpoints declared ``blocking=True``."""
    thread_backlog: int = 256
    """Blocking calls that may wait for a thread; further ones are answered 503."""
    slow_endpoint: float = 0.1
    """An inline ``def`` endpoint that blocks the loop longer is logged by name."""
    cancel_on_disconnect: bool = False
    """Whether the task of a direct endpoint is cancelled when its client goes."""
    access_log: str = "off"
    """``off``, ``common``, ``combined`` or ``json``."""
    forwarded_allow_ips: str | None = None
    """Proxies that are believed: addresses, networks, ``unix``, ``*``, apart by commas; None:
    the host's, else ``127.0.0.1,::1,unix``; empty: nobody."""
    forwarded_headers: str = DEFAULT_HEADERS
    """What they are believed about: ``x-forwarded-for``, ``-proto``, ``-host`` and ``-port``, or
    ``forwarded`` (RFC 7239); only what each of them sets."""
    http2: bool | None = None
    """Whether HTTP/2 is spoken, by ALPN and by prior knowledge; None: where hpack is installed."""
    parser: str = "auto"
    """``httptools``, ``aiohttp`` (its llhttp binding) or ``auto``: the first installed."""
    dumps: Callable[[Any], str | bytes] = dataclasses.field(default_factory=default_dumps)
    """Turns what an endpoint returns into JSON."""
    loads: Callable[[Any], Any] = dataclasses.field(default_factory=default_loads)
    """Reads a JSON body."""
    openapi: bool | None = None
    """Whether /openapi.json and /docs are served; None: when an endpoint is annotated."""
    title: str = "apihour"
    """Title of the OpenAPI document."""
    version: str = "1.0.0"
    """Version of the OpenAPI document."""

    def __post_init__(self) -> None:
        for name, allowed in (("access_log", LOG_FORMATS), ("parser", PARSERS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"option {name}={value!r}: expected one of {', '.join(allowed)}")
        for name, look in (("forwarded_allow_ips", Proxies), ("forwarded_headers", chosen)):
            _check_text(name, look, getattr(self, name))
        for field in dataclasses.fields(self):
            _check(field.name, str(field.type), getattr(self, field.name))

    def updated(self, changes: Mapping[str, Any]) -> Options:
        """Return these options with `changes`; ValueError names one that does not exist."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise ValueError(f"option {name!r}: expected one of {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)


def _check_text(name: str, look: Callable[[str], Any], value: object) -> None:
    """Raise ValueError naming an option whose text `look` does not take."""
    try:
        if isinstance(value, str):
            look(value)
    except ValueError as error:
        raise ValueError(f"option {name}={value!r}: {error}") from None


def _check(name: str, annotation: str, value: object) -> None:
    """Raise ValueError naming an option whose value is of another type, or out of range."""
    kind, *rest = annotation.split(" | ")
    if value is None and rest == ["None"]:
        return
    if kind not in _EXPECTED:
        if not callable(value):
            raise ValueError(f"option {name}={value!r}: expected a callable")
        return
    types, expected = _EXPECTED[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(f"option {name}={value!r}: expected {expected}")
    if isinstance(value, int | float):
        if name in _AT_LEAST_ONE and value < 1:
            raise ValueError(f"option {name}={value!r}: expected at least 1")
        if not value >= 0:  # NaN is neither
            raise ValueError(f"option {name}={value!r}: expected no negative number")
