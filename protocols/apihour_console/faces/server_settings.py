"""What the SSH server of the console is told, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from apihour_console.calls.call import Identity
from apihour_ssh.limits import Limits

__all__ = ["ServerSettings"]


@dataclass(frozen=True)
class ServerSettings:
    """How to serve; times in seconds. `history`: the directory of line histories."""

    name: str = "apihour"
    greeting: Callable[[Identity], str] = lambda identity: ""
    history: Path | None = None
    strict: bool = False
    login_timeout: float = 20.0
    idle_timeout: float = 1800.0
    keepalive: float = 15.0
    limits: Limits = field(default_factory=Limits)
