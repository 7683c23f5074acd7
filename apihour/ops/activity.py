"""What a connection is doing, as its protocol says when somebody asks.

Rules:

- A protocol may have a method ``activity()``. Nothing calls it but somebody who looks, so a
  request pays nothing: it derives what it says from the state it is in.
- It returns a mapping with any of ``state`` (a word of the protocol's own: ``head``, ``body``,
  ``idle``...), ``path`` (what is asked for, without secrets), ``route`` (what of the
  application answers), ``since`` (``time.monotonic()`` when the request began) and ``client``
  (the address of who sent it, where that is not the peer: behind a proxy).
- It is called beside the loop, by the agent's thread: it reads only. Nothing it says is
  trusted: texts are cut, what it raises is the state that is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Activity", "activity_of"]

_STATE = 60  # characters of a state that are kept
_TEXT = 200  # characters of a path or a route that are kept; peers choose them


@dataclass(frozen=True)
class Activity:
    """What one connection does; `age` in seconds, None when no request is under way."""

    state: str = ""
    path: str = ""
    route: str = ""
    age: float | None = None
    client: str = ""


_NOTHING = Activity()


def activity_of(transport: asyncio.BaseTransport | None) -> Activity:
    """What the protocol behind `transport` says it does; empty when it says nothing."""
    if transport is None:
        return _NOTHING
    ask = getattr(transport.get_protocol(), "activity", None)
    if not callable(ask):
        return _NOTHING
    try:
        return _read(ask())
    except Exception as error:  # of a protocol, or of its state that changed meanwhile
        return Activity(state=f"unknown: {error!r}"[:_STATE])


def _read(told: Mapping[str, Any]) -> Activity:
    since = told.get("since")
    return Activity(
        str(told.get("state") or "")[:_STATE], str(told.get("path") or "")[:_TEXT],
        str(told.get("route") or "")[:_TEXT],
        max(0.0, time.monotonic() - since) if since is not None else None,
        str(told.get("client") or "")[:_STATE],
    )
