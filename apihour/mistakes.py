"""What somebody meant who gave an object that nobody serves: the class for its instance.

Rules: nothing of the user's is called; shapes are judged, and the plugins asked what they
would have accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["hint", "refusal"]

Accepts = Callable[[object, Any], bool]

_SERVER = ("start", "drain", "stop", "statistics", "protocol")  # see apihour.plugins.Server


def hint(obj: object, kind: str | None, accepts: Accepts) -> str:
    """``WHAT; expected WHAT`` for a mistake that is known, else empty.

    `kind` is that of the bind, ``stream`` or ``datagram``, None where there is none yet;
    `accepts` tells of an object and a kind whether a plugin would serve it.
    """
    kinds = ("stream", "datagram") if kind is None else (kind,)
    if isinstance(obj, type):
        if _is_server_class(obj) or _accepted(_Instance(obj), kinds, accepts):
            return f"the class {obj.__name__}; expected an instance: {obj.__name__}(...)"
    elif isinstance(obj, asyncio.BaseProtocol) or _accepted(type(obj), kinds, accepts):
        name = type(obj).__name__
        return (f"one instance of {name}, and each connection needs its own; expected the class: "
                f"{name}, or a function that makes one")
    for other in ("stream", "datagram"):
        if kind is not None and other != kind and _accepted(obj, (other,), accepts):
            wanted = "like udp://HOST:PORT" if other == "datagram" else "without udp://"
            return f"{_name(obj)} on a {kind} bind; expected a bind {wanted}"
    return ""


def refusal(obj: object, kind: str, registry: Any, takers: Sequence[Any]) -> str:
    """Why `obj` is not served on a bind of that kind: several plugins take it, or none does.

    `registry` is the :class:`apihour.plugins.Registry`, `takers` those of it that accept `obj`.
    """
    if takers:
        names = " and ".join(repr(plugin.name) for plugin in takers)
        return f"{obj!r} is accepted by {names}; expected one"
    if known := hint(obj, kind, registry.accepts):
        return known
    asked = "; ".join(
        [f"{plugin.name} ({plugin.describes})" for plugin in registry]
        + [f"{plugin}: {why}" for plugin, why in registry.unusable.items()]
    )
    return (f"no plugin accepts {obj!r} on a {kind} bind; "
            f"asked: {asked or 'none, no plugin is installed'}")


def _accepted(obj: object, kinds: Iterable[str], accepts: Accepts) -> bool:
    try:
        return any(accepts(obj, kind) for kind in kinds)
    except Exception:  # an object that stands for another may lack what a plugin looks at
        return False


class _Instance:
    """Passes for an instance of a class with isinstance(), without making one."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._cls


def _is_server_class(cls: type) -> bool:
    return all(hasattr(cls, name) for name in _SERVER)


def _name(obj: object) -> str:
    return getattr(obj, "__qualname__", None) or repr(obj)
