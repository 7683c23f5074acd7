"""What the arbiter tells the console process: one environment variable, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from apihour.errors import ConfigurationError
from apihour_ssh.limits import Limits

__all__ = ["VARIABLE", "Settings"]

VARIABLE = "APIHOUR_CONSOLE"
# A handshake of a stranger costs 2 to 3 ms: in a process of its own more are affordable than in
# the loop of a worker, and through a flood of them as many more get in.
_OF_ITS_OWN = {"rate": 100.0, "burst": 200, "startups": 300}


@dataclass(frozen=True)
class Settings:
    """What ``APIHOUR_CONSOLE`` says. Times in seconds; unknown keys are an error.

    `fds` maps ``ssh`` and ``health`` to inherited listening sockets. `terminal`: the daemon
    was started from one. `errorlog`: a file to log to, ``-`` for stderr; `accesslog`: the
    workers'. `options`:
    ``idle_timeout``, ``login_timeout``, ``state`` (where history and the audit log go; the
    keys directory by default), ``python`` (whether the Python prompt may be used), ``home``
    and ``limits`` (fields of :class:`Limits`).
    """

    runtime: str
    keys: str
    listen: tuple[str, ...] = ()
    fds: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] | None = None
    terminal: bool = False
    strict: bool = False
    loglevel: str = "info"
    errorlog: str = "-"
    accesslog: str = "-"
    name: str = "apihour"
    ready_fd: int | None = None
    graceful_timeout: float = 30.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read the variable. Raises ConfigurationError naming what is wrong with it."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{VARIABLE}: {error}; expected a JSON object") from error
        if not isinstance(values, dict):
            raise ConfigurationError(f"{VARIABLE}: expected a JSON object")
        unknown = sorted(values.keys() - {one.name for one in fields(cls)})
        missing = sorted({"runtime", "keys"} - values.keys())
        if unknown or missing:
            raise ConfigurationError(f"{VARIABLE}: unknown {unknown}, missing {missing}")
        listen = values.get("listen") or ()
        values["listen"] = (listen,) if isinstance(listen, str) else tuple(listen)
        return cls(**values)

    def limits(self) -> Limits:
        """The limits of logins. Raises ConfigurationError on a name that is none."""
        try:
            return Limits(**_OF_ITS_OWN | self.options.get("limits", {}))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{VARIABLE}: limits: {error}") from error
