"""Commands: what operators may ask, and the agent that answers in a worker.

May import from config down.
"""

from apihour.ops.annotations import (
    Address,
    Bytes,
    CommandName,
    ConnectionId,
    Duration,
    Kind,
    LoggerName,
    Percent,
    Seconds,
    Secret,
    ServerName,
    Short,
    TaskId,
    Worker,
)
from apihour.ops.catalogue import Catalogue, command
from apihour.ops.model import (
    GLOBAL_OPTIONS,
    Collects,
    Column,
    Command,
    CommandFailed,
    Parameter,
    Role,
    Scope,
)
from apihour.ops.rows import stamp, to_rows

__all__ = [
    "GLOBAL_OPTIONS",
    "Address",
    "Bytes",
    "Catalogue",
    "Collects",
    "Column",
    "Command",
    "CommandFailed",
    "CommandName",
    "ConnectionId",
    "Duration",
    "Kind",
    "LoggerName",
    "Parameter",
    "Percent",
    "Role",
    "Scope",
    "Seconds",
    "Secret",
    "ServerName",
    "Short",
    "TaskId",
    "Worker",
    "command",
    "stamp",
    "to_rows",
]
