"""apihour: a multi-protocol service host.

One :class:`Container` per worker process, one worker per CPU; HTTP, SSH, TCP, UDP and any
other asyncio server live side by side in it.
"""

from typing import TYPE_CHECKING, Any

from apihour.app.container import Container
from apihour.errors import (
    AdaptError,
    AddressError,
    ApihourError,
    BindError,
    BusDownError,
    BusError,
    BusTimeoutError,
    ConfigurationError,
    HookError,
    JobError,
    NoResponderError,
    PluginError,
    RevisionError,
    SharedBusyError,
    SharedDownError,
    SharedError,
    SharedFullError,
    TargetError,
    UsageError,
)
from apihour.ops.catalogue import command
from apihour.plugins import Plugin, Registry, Server, ServerContext
from apihour.version import __version__

if TYPE_CHECKING:
    from apihour.jobs import JobRun, cron, every

__all__ = [
    "AdaptError",
    "AddressError",
    "ApihourError",
    "BindError",
    "BusDownError",
    "BusError",
    "BusTimeoutError",
    "ConfigurationError",
    "Container",
    "HookError",
    "JobError",
    "JobRun",
    "NoResponderError",
    "Plugin",
    "PluginError",
    "Registry",
    "RevisionError",
    "Server",
    "ServerContext",
    "SharedBusyError",
    "SharedDownError",
    "SharedError",
    "SharedFullError",
    "TargetError",
    "UsageError",
    "__version__",
    "command",
    "cron",
    "every",
]


def __getattr__(name: str) -> Any:
    """What declares jobs is imported by containers that have some."""
    if name not in ("JobRun", "cron", "every"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from apihour import jobs

    return getattr(jobs, name)
