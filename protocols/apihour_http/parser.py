"""Which C parser decides where messages begin and end: one llhttp, by two bindings.

httptools calls back for every part and costs a third of the time; aiohttp's binding is
always there where aiohttp is. Both are driven by the same callbacks (``on_url``,
``on_header``, ``on_headers_complete``, ``on_body``, ``on_message_complete``) and the same
questions (``get_method``, ``get_http_version``, ``should_keep_alive``,
``should_upgrade``), so a lane does not know which one it has.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Binding", "choose"]


@dataclass(frozen=True)
class Binding:
    """A parser library: how to make a parser, and what it raises."""

    name: str
    make: Callable[[Any], Any]
    upgrade: type[Exception]
    """Raised after an upgrade request; its first argument is the offset of the rest."""
    callback: type[Exception]
    """Raised when a callback raised; that exception is its ``__context__``."""
    tells_begin: bool = True
    """Whether ``on_url`` comes as soon as a head is under way, not when it is complete."""
    reads_on: bool = True
    """Whether a body is parsed although an upgrade is asked for."""


def _httptools() -> Binding:
    parser = importlib.import_module("httptools")
    return Binding(
        "httptools", parser.HttpRequestParser, parser.HttpParserUpgrade,
        parser.HttpParserCallbackError, reads_on=False,
    )


def _aiohttp() -> Binding:
    adapter = importlib.import_module("apihour_http.aiohttp.llhttp")
    return Binding(
        "aiohttp", adapter.EventParser, adapter.UpgradeError, adapter.CallbackError,
        tells_begin=False,
    )


def choose(name: str = "auto") -> Binding:
    """Return the binding called `name`, or for ``auto`` the fastest that is installed.

    Raises ImportError naming what to install when there is none.
    """
    candidates = {"httptools": _httptools, "aiohttp": _aiohttp}
    for candidate in candidates if name == "auto" else [name]:
        try:
            return candidates[candidate]()
        except ImportError as error:
            missing = error
    raise ImportError(
        f"HTTP parser {name!r}: expected httptools (pip install apihour[standard]) or aiohttp"
    ) from missing
