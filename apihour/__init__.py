"""apihour: a multi-protocol service host.

One :class:`Container` per worker process, one worker per CPU; HTTP, SSH, TCP, UDP and any
other asyncio server live side by side in it.
"""

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
from apihour.jobs import JobRun, cron, every
from apihour.ops.catalogue import command
from apihour.plugins import Plugin, Registry, Server, ServerContext
from apihour.version import __version__

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
