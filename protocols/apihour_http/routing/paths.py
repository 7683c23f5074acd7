"""The paths of routes: literal segments, parameters and their converters.

A path is literal segments and ``{name}`` or ``{name:converter}`` ones; a converter is int, float,
uuid, str (one segment) or path (all the rest, last only).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from apihour_http.errors import RouteError

__all__ = ["CONVERTERS", "ORDER", "Converter", "check_prefix", "parameters_of", "parse_path"]

Converter = Callable[[str], Any]

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_INT = re.compile(r"-?[0-9]{1,20}")
_FLOAT = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError(text)
    return float(text)


CONVERTERS: dict[str, Converter] = {
    "int": _int, "float": _float, "uuid": uuid.UUID, "str": str, "path": str,
}
# Strict ones first: ``{id:int}`` is tried before ``{name}``.
ORDER = list(CONVERTERS)


def check_prefix(prefix: Any) -> None:
    """Raise RouteError unless `prefix` is one of paths, or empty."""
    if not isinstance(prefix, str) or (
        prefix and (not prefix.startswith("/") or prefix.endswith("/"))
    ):
        raise RouteError(f"prefix {prefix!r}: expected a leading slash and no trailing one")
    if prefix:
        parse_path(prefix)


def parse_path(path: str) -> list[str | tuple[str, str]]:
    """Split a path into literals and (name, converter) pairs; RouteError if it is no path."""
    if not path.startswith("/"):
        raise RouteError(f"route {path!r}: expected a leading slash")
    parts: list[str | tuple[str, str]] = []
    names: set[str] = set()
    segments = path[1:].split("/")
    for place, segment in enumerate(segments):
        found = _PARAMETER.fullmatch(segment)
        if found is None:
            if "{" in segment or "}" in segment or "?" in segment or "#" in segment:
                raise RouteError(f"route {path!r}: segment {segment!r}: expected text or {{name}}")
            parts.append(unquote(segment))
            continue
        name, converter = found.group(1), found.group(2) or "str"
        if converter not in CONVERTERS:
            raise RouteError(f"route {path!r}: converter {converter!r}: expected one of "
                             f"{', '.join(CONVERTERS)}")
        if name in names:
            raise RouteError(f"route {path!r}: {{{name}}} appears twice")
        if converter == "path" and place != len(segments) - 1:
            raise RouteError(f"route {path!r}: {{{name}:path}}: expected as the last segment")
        names.add(name)
        parts.append((name, converter))
    return parts


def parameters_of(path: str) -> list[tuple[str, str]]:
    """The names and converters of a path's parameters, in order."""
    return [part for part in parse_path(path) if not isinstance(part, str)]
