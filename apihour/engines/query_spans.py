"""Spans of queries and commands, where the container has a tracer of OpenTelemetry.

Rules:

- This module, and OpenTelemetry's API with it, is imported by an engine that is traced, only.
- A span has no value: what stands literally in a statement is ``?`` there, of a command of Redis
  there is its name, and of an error its class, whose text the log has.
- Attributes are those of OpenTelemetry's semantic conventions for databases, and beside
  ``db.system.name`` the older ``db.system``, by which many still look.
"""

from __future__ import annotations

import re
import time
from typing import Any

from opentelemetry.trace import SpanKind, Status, StatusCode

from apihour.engines.slowest import Slowest

__all__ = ["SpannedQueries", "without_values"]

_SYSTEMS = {"pg": "postgresql", "psycopg": "postgresql"}
_LONGEST = 4096  # characters of a statement; conventions set no limit, a bulk insert needs one
# One pass over it, so that no quote within a comment, or a name, is taken for the begin of a text.
# Texts have C's escapes after an E, or dollars around them (PostgreSQL 4.1.2); what does not end
# goes to the end. What double quotes hold is a name, but for MySQL.
_NUMBER = r"(?<![\w$:@?.])[+-]?(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?)"
_COMMENT = r"(?P<comment>/\*.*?(?:\*/|\Z)|--[^\n]*)"
_STANDARD = re.compile(
    _COMMENT + r"""|(?P<name>"[^"]*")|[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)"""
    r"""|[bBxXnN]?'[^']*(?:''[^']*)*(?:'|\Z)"""
    r"""|\$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)|""" + _NUMBER, re.DOTALL)
_MYSQL = re.compile(
    _COMMENT + r"""|\#[^\n]*|(?P<name>`[^`]*`)|[bBxXnN]?'(?:[^'\\]|''|\\.)*(?:'|\Z)"""
    r"""|"(?:[^"\\]|""|\\.)*(?:"|\Z)|""" + _NUMBER, re.DOTALL)


def without_values(statement: str, system: str = "") -> str:
    """The statement with ``?`` for each literal, without comments, in one line."""
    tokens = _MYSQL if system == "mysql" else _STANDARD
    return " ".join(tokens.sub(_shown, statement[:4 * _LONGEST]).split())[:_LONGEST]


def _shown(token: re.Match[str]) -> str:
    return token["name"] or (" " if token["comment"] else "?")


class SpannedQueries(Slowest):
    """The slowest query, and a span of each; `address` is ``HOST:PORT/DATABASE``, or a file."""

    keeps_context = True

    def __init__(self, tracer: Any, kind: str, address: str) -> None:
        super().__init__()
        self._tracer = tracer
        self._system = _SYSTEMS.get(kind, kind)
        place, _, self._database = ("", "", address) if kind == "sqlite" else (
            address.partition("/"))
        host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (
            place, "", "")
        self._common: dict[str, Any] = {
            name: value for name, value in {
                "db.system": self._system, "db.system.name": self._system,
                "db.namespace": self._database, "server.address": host}.items() if value}
        if port:
            self._common["server.port"] = int(port)

    def note(self, seconds: float, query: str, error: BaseException | None = None) -> None:
        """See :class:`Slowest`: called by whoever asked, or in a copy of its context."""
        super().note(seconds, query, error)
        now = time.time_ns()
        text = without_values(query, self._system)
        operation = text.partition(" ")[0].rstrip(";").upper()[:40]
        span = self._tracer.start_span(
            f"{operation} {self._database}".strip() or self._system, kind=SpanKind.CLIENT,
            attributes={**self._common, "db.operation.name": operation, "db.query.text": text},
            start_time=now - int(seconds * 1e9))
        if error is not None:
            name = type(error).__name__
            span.set_attribute("error.type", name)
            if isinstance(error, Exception):  # a cancelled one has not failed
                span.set_status(Status(StatusCode.ERROR, name))
        span.end(now)
