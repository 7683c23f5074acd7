"""Why a target cannot be had: one line that ends with the user's own file, line and text.

Rule: read where one cannot.
"""

from __future__ import annotations

import sys
from typing import Any

from apihour.blame import blame
from apihour.errors import TargetError

__all__ = ["cannot_import", "has_none"]


def has_none(target: str, found: Any, module_name: str, part: str) -> TargetError:
    """What was found there has no attribute of that name."""
    have = sorted(key for key in vars(found) if not key.startswith("_"))
    return TargetError(
        f"target {target!r}: {module_name!r} ({getattr(found, '__file__', '?')}) has no "
        f"{part!r}; it has {', '.join(have[:12]) or 'nothing public'}"
    )


def cannot_import(target: str, name: str, error: BaseException) -> TargetError:
    """Its module raised that, or is none."""
    why = blame(error)
    if isinstance(error, SyntaxError):  # its place is in no traceback
        place = f"{error.filename}:{error.lineno}"
        why = f"{place}: SyntaxError: {error.msg}: {(error.text or '').strip()}"
    elif isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        where = ", ".join(repr(path) for path in sys.path[:1]) or "sys.path"
        return TargetError(f"target {target!r}: no module named {error.name!r}, looked in {where}")
    return TargetError(f"target {target!r}: {why}")
