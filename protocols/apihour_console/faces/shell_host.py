"""What the network shell sees of the process that it is brought up in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from apihour.ipc.runtime import Runtime
from apihour_console.settings import Settings

__all__ = ["ShellHost"]


class ShellHost(Protocol):
    """The console, as far as its faces need it. `keys` and `state` are directories."""

    settings: Settings
    logger: logging.Logger
    runtime: Runtime
    keys: Path
    state: Path
