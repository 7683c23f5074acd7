"""What a Proxy is asked: in its constructor, and over that in the host's configuration file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from apihour_proxy.lookup import Target, parse_target

__all__ = ["ProxyOptions"]


@dataclasses.dataclass(frozen=True)
class ProxyOptions:
    """See :class:`Proxy`. Raises TypeError or ValueError for one that cannot be."""

    upstreams: Any = ()
    connect_timeout: float = 5.0
    retries: int = 3
    fails: int = 3
    check: float = 5.0
    idle: float | None = 600.0
    proxy_protocol: int | None = None

    def __post_init__(self) -> None:
        self.targets()
        for name, value in (("connect_timeout", self.connect_timeout), ("check", self.check),
                            ("idle", 1 if self.idle is None else self.idle)):
            if not _is_number(value, int | float) or not value > 0:
                raise ValueError(f"option {name}={value!r}: expected seconds, more than 0")
        for name, value, least in (("retries", self.retries, 0), ("fails", self.fails, 1)):
            if not _is_number(value, int) or value < least:
                raise ValueError(f"option {name}={value!r}: expected a whole number, "
                                 f"at least {least}")
        if self.proxy_protocol not in (None, 1, 2):
            raise ValueError(f"option proxy_protocol={self.proxy_protocol!r}: "
                             "expected 1, 2 or None")

    def targets(self) -> list[Target]:
        """The upstreams, taken apart."""
        given = self.upstreams
        if not isinstance(given, str | list | tuple):
            raise TypeError(f"upstreams {given!r}: expected HOST:PORT, or a list of them")
        return [parse_target(text) for text in ([given] if isinstance(given, str) else given)]

    def updated(self, changes: Mapping[str, Any]) -> ProxyOptions:
        """These with `changes`. Raises ValueError for a name that there is not, too."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"option {name!r}: expected one of {', '.join(known)}")
        made = dataclasses.replace(self, **changes)
        if not made.upstreams:
            raise ValueError("no upstream: expected at least one, as Proxy('HOST:PORT') or in the "
                             "configuration, servers: NAME: upstreams:")
        return made


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
