"""What the annotations of a command say: what a parameter names, the unit of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

__all__ = [
    "COLUMN_TYPES",
    "PARAMETER_TYPES",
    "Acts",
    "Address",
    "Bytes",
    "CommandName",
    "ConnectionId",
    "Duration",
    "Kind",
    "LoggerName",
    "Percent",
    "Seconds",
    "Secret",
    "ServerName",
    "Short",
    "Stack",
    "TaskId",
    "Worker",
]


@dataclass(frozen=True)
class Kind:
    """Annotation: what a parameter names, or the unit of a column."""

    name: str


@dataclass(frozen=True)
class Short:
    """Annotation: the one-letter form of an option, without its dash."""

    letter: str


@dataclass(frozen=True)
class Acts:
    """Annotation: with this parameter the command changes something."""


Worker = Annotated[str, Kind("worker")]
ConnectionId = Annotated[str, Kind("connection")]
LoggerName = Annotated[str, Kind("logger")]
ServerName = Annotated[str, Kind("server")]
TaskId = Annotated[str, Kind("task")]
CommandName = Annotated[str, Kind("command")]
Secret = Annotated[str, Kind("secret")]
"""A parameter that nobody else shall read: masked in the audit log and in ``sessions``."""
Duration = Annotated[float, Kind("duration")]
"""A parameter in seconds, written ``90``, ``500ms``, ``10m``, ``2h``."""
Seconds = Annotated[float, Kind("seconds")]
Bytes = Annotated[int, Kind("bytes")]
Percent = Annotated[float, Kind("percent")]
Stack = Annotated[str, Kind("stack")]
"""Lines ``FILE:LINE FUNCTION``, innermost first; a table shows the application's own."""
Address = Annotated[str, Kind("address")]
"""A column of peers: a filter may leave the port away, or name a network."""
COLUMN_TYPES = frozenset(
    ("str", "int", "float", "bool", "seconds", "bytes", "percent", "address", "any")
)
PARAMETER_TYPES = frozenset(
    ("str", "int", "float", "bool", "choice", "worker", "connection", "logger", "server", "task",
     "command", "duration", "secret")
)
