"""How things are called: what ``module:Container`` says, daemons, hooks."""

from __future__ import annotations

from typing import Any

from apihour.errors import TargetError

__all__ = ["daemon_name", "hook_title", "split_target"]


def split_target(target: str) -> tuple[str, str]:
    """Split ``module:name``; the name defaults to ``Container``. Raises TargetError."""
    module, separator, name = target.partition(":")
    if not module or (separator and not name) or module.endswith(".py") or "/" in module:
        raise TargetError(f"target {target!r}: expected module:Container, like hello:Container")
    return module, name or "Container"


def daemon_name(module: str) -> str:
    """How a daemon of that module is called: by its package, but for those of ``examples``."""
    parts = module.split(".")
    return parts[-1] if len(parts) > 1 and parts[0] == "examples" else parts[0]


def hook_title(cls: type[Any], name: str) -> str:
    """A hook as failures name it: ``container module:Container: start()``."""
    return f"container {cls.__module__}:{cls.__qualname__}: {name}()"
