"""Shell: the declaration of where apihour's console listens.

Rules:

- In a worker it serves nothing by itself: the core sees ``is_shell`` and hands the listener
  to the console process, which never calls :meth:`Shell.stream`.
- With ``in_worker=True`` the console's catalogue is served from the worker's own loop. What
  does so is found by its entry point when the server starts: a plugin imports no other
  plugin, and knows none by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import entry_points
from typing import Any

from apihour_ssh.limits import Limits

__all__ = ["Shell"]

# make_server(context, options) -> a server of stream connections (apihour.plugins.Server)
_GROUP, _IN_WORKER = "apihour.console", "in_worker"

_OPTIONS = frozenset(
    ("keys", "strict", "idle_timeout", "login_timeout", "limits", "state", "home")
)


class Shell:
    """``"ssh": Shell()`` in ``make_servers()``: the daemon's console on the bind ``ssh``.

    `in_worker` serves it from each worker's loop instead of the console process: one process
    less, at the price of stalls of 50 to 500 ms for the worker's other connections while an
    operator types. `options`, over those of the command line: ``keys`` (directory), ``strict``,
    ``idle_timeout`` and ``login_timeout`` (seconds), ``limits`` (:class:`Limits` or a mapping
    of its fields), ``state`` (directory of histories and audit log), ``home``.

    Raises TypeError for an option there is not.
    """

    protocol = "ssh"
    is_shell = True

    def __init__(self, in_worker: bool = False, **options: Any) -> None:
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise TypeError(
                f"Shell: option {unknown[0]!r}; expected one of {', '.join(sorted(_OPTIONS))}")
        if "limits" in options:  # as plain values: they travel to the console process
            options["limits"] = _limits(options["limits"])
        self.in_worker = in_worker
        self.options: Mapping[str, Any] = dict(options)
        self._served: Any = None

    def __repr__(self) -> str:
        return f"Shell(in_worker={self.in_worker})"

    async def start(self, context: Any = None) -> None:
        """Start the console's server when it is to run here.

        Raises RuntimeError without a worker to look into, ImportError without the console.
        """
        if not self.in_worker:
            return
        if context is None:
            raise RuntimeError(f"{self!r}: the console looks into apihour's workers; "
                               "outside of one, expected an SSHServer")
        self._served = _console()(context, self.options)
        await self._served.start(context)

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        """The protocol of one connection, with ``in_worker``. Raises RuntimeError without."""
        if self._served is None:
            raise RuntimeError(f"{self!r}: its connections belong to the console process")
        protocol: asyncio.BaseProtocol = self._served.stream(conn)
        return protocol

    async def drain(self, deadline: float) -> None:
        """As the console's server does; `deadline` is a time of ``loop.time()``."""
        if self._served is not None:
            await self._served.drain(deadline)

    async def stop(self) -> None:
        """As the console's server does."""
        served, self._served = self._served, None
        if served is not None:
            await served.stop()

    def statistics(self) -> Mapping[str, Any]:
        """The console's counters, when it runs here."""
        if self._served is None:
            return {}
        facts: Mapping[str, Any] = self._served.statistics()
        return facts


def _console() -> Any:
    for entry in entry_points(group=_GROUP, name=_IN_WORKER):
        return entry.load()
    raise ImportError(f"Shell(in_worker=True): expected an entry point {_IN_WORKER!r} of the group "
                      f"{_GROUP!r}; install apihour anew")


def _limits(given: Any) -> dict[str, Any]:
    if isinstance(given, Limits):
        return asdict(given)
    try:
        return asdict(Limits(**given))
    except TypeError as error:
        names = ", ".join(one.name for one in fields(Limits))
        raise TypeError(
            f"Shell: limits {given!r}: {error}; expected some of {names}") from error
