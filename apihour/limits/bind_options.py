"""The options of a bind about its connections: their texts and values; parsing only.

=================  ==================================================================
``per_address``    open connections of one address in a worker
``rate``           new connections of one address in a worker: ``10/s``, ``60/m``, ``100/h``
``over``           beyond these, and ``limit``: ``wait`` or ``close``
``idle``           time without a byte either way after which a connection is closed
``min_rate``       bytes a second that a peer must send while it sends
``keepalive``      time without traffic after which TCP asks whether the peer is there; 0: never
``nodelay``        ``no``: small pieces wait to be sent together (RFC 896)
=================  ==================================================================

Rules:

- An address is one of IPv4, or the /64 of one of IPv6: who has one address of it has them all.
- The class of a server may say them (``bind_options``), the files (``servers: NAME:
  bind_options:``), the bind, and operators: each goes before those named first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

__all__ = ["NAMES", "BindOptions", "parse_options"]

_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)?")
_RATE = re.compile(r"(\d{1,9})(?:/([smh]))?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LEAST_TIME, _MOST_TIME = 0.1, 30 * 86400.0  # seconds
_MOST_KEEPALIVE = 32767  # seconds of TCP_KEEPIDLE, tcp(7)
_MOST = 10**9
_ASKED_OF_KERNEL = ("idle", "min_rate")
_BY_ADDRESS = ("per_address", "rate")
_TCP_ONLY = ("idle", "min_rate", "keepalive", "nodelay")


@dataclass(frozen=True)
class BindOptions:
    """What is asked of connections; None: nothing is. Times in seconds, `min_rate` in bytes.

    `rate` is (how many, in how many seconds). `limit` are open connections in a worker.
    """

    limit: int | None = None
    per_address: int | None = None
    rate: tuple[int, float] | None = None
    over: Literal["wait", "close"] | None = None
    idle: float | None = None
    min_rate: int | None = None
    keepalive: int | None = None
    nodelay: bool | None = None

    def updated(self, other: BindOptions | None) -> BindOptions:
        """These, but for what `other` says."""
        if other is None:
            return self
        said = {key: value for key, value in vars(other).items() if value is not None}
        return replace(self, **said) if said else self

    def texts(self) -> dict[str, str]:
        """What is asked, by name, as it may be written."""
        return {key: _write(key, value) for key, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        return " ".join(f"{key}={text}" for key, text in self.texts().items())

    @property
    def by_address(self) -> bool:
        """Whether an address has limits of its own."""
        return self.per_address is not None or self.rate is not None

    def only(self, *names: str) -> BindOptions:
        """These options of it."""
        return BindOptions(**{name: getattr(self, name) for name in names})

    def misplaced(self, family: str, is_proxied: bool) -> str:
        """What of it a socket of that family (tcp, udp, unix) cannot do; empty: nothing."""
        if family == "udp" and (name := self._first(NAMES)):
            return f"option {name!r} on stream binds only"
        if family == "unix" and (name := self._first(_TCP_ONLY)):
            return f"option {name!r} on TCP binds only"
        if family == "unix" and not is_proxied and (name := self._first(_BY_ADDRESS)):
            return f"option {name!r} on TCP binds, or beside proxy=NETWORKS, only"
        if sys.platform != "linux" and (name := self._first(_ASKED_OF_KERNEL)):
            return f"option {name!r} on Linux only"
        return ""

    def _first(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if getattr(self, name) is not None), "")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or not 0 < int(text) <= _MOST:
        raise ValueError("a number, 1 or more")
    return int(text)


def _rate(text: str) -> tuple[int, float]:
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError("a number of connections such as 10, 10/s, 60/m or 100/h")
    return int(found[1]), _SECONDS[found[2] or "s"]


def _over(text: str) -> str:
    if text not in ("wait", "close"):
        raise ValueError("wait or close")
    return text


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("a time such as 90, 500ms, 10m or 2h")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _time(text: str) -> float:
    seconds = _seconds(text)
    if not _LEAST_TIME <= seconds <= _MOST_TIME:
        raise ValueError("a time from 100ms to 720h")
    return seconds


def _keepalive(text: str) -> int:
    seconds = _seconds(text)
    if seconds % 1 or seconds > _MOST_KEEPALIVE:
        raise ValueError("whole seconds up to 9h, 0 for none")
    return int(seconds)


def _switch(text: str) -> bool:
    if text.lower() not in ("", "1", "0", "yes", "no", "true", "false"):
        raise ValueError("yes or no")
    return text.lower() not in ("0", "no", "false")


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "limit": _count, "per_address": _count, "rate": _rate, "over": _over, "idle": _time,
    "min_rate": _count, "keepalive": _keepalive, "nodelay": _switch,
}
NAMES = tuple(one.name for one in fields(BindOptions))


def _write(key: str, value: Any) -> str:
    if key == "rate":
        unit = {1.0: "s", 60.0: "m", 3600.0: "h"}[value[1]]
        return f"{value[0]}/{unit}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.12g}"


def parse_options(given: Mapping[str, object]) -> BindOptions:
    """What names and their texts, numbers or truths say.

    Raises ValueError, what was expected of the first that is wrong.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        parse = _PARSERS.get(key)
        if parse is None:
            raise ValueError(f"one of the options {', '.join(NAMES)}, not {key!r:.60}")
        try:
            found[key] = parse(str(value).strip())
        except ValueError as error:
            raise ValueError(f"option {key!r} of {error}, not {str(value)!r:.60}") from None
    return BindOptions(**found)
