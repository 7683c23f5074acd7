"""What the word ``module:Container`` of a command line says."""

from __future__ import annotations

from apihour.errors import TargetError

__all__ = ["daemon_name", "split_target"]


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
