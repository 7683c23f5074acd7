"""The server hooks of a configuration file, called with the server that they expect."""

from __future__ import annotations

from typing import Any

from apihour.errors import HookError

__all__ = ["Hooks"]


class Hooks:
    """Calls hooks by name; `server` is only passed on, as gunicorn's contract has it."""

    def __init__(self, server: object) -> None:
        self._server = server

    def call(self, cfg: Any, name: str, *arguments: Any) -> None:
        """Call one; what it raises is the caller's to handle."""
        getattr(cfg, name)(self._server, *arguments)

    def demand(self, cfg: Any, name: str, *arguments: Any) -> None:
        """Call one that must succeed. Raises HookError naming it and the line."""
        try:
            self.call(cfg, name, *arguments)
        except Exception as error:
            from apihour.blame import blame  # here and below read where one fails only

            raise HookError(f"hook {name} failed: {blame(error)}") from error

    def attempt(self, log: Any, cfg: Any, name: str, *arguments: Any) -> None:
        """Call one whose failure changes nothing: it is logged."""
        try:
            self.call(cfg, name, *arguments)
        except Exception as error:
            from apihour.blame import blame

            log.exception("hook %s failed: %s", name, blame(error))
