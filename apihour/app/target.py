"""From ``module:name`` to the container class; of what is none, apihour.app.bare makes one.

Rules:

- Only workers, the probe child, ``check`` and ``dev`` call this: the arbiter must not keep
  application code imported, or a reload would not see new code.
- A failure is one line that ends with the user's own file, line and text.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from apihour.app.container import Container
from apihour.app.forks import in_one_process
from apihour.config.naming import split_target
from apihour.errors import TargetError

__all__ = ["load_target"]


def load_target(target: str, factory: bool = False) -> type[Container]:
    """Import the target and return its container class.

    With `factory`, or where the name ends with ``()``, the target is a function without
    arguments that makes the application; an ``async def`` of that shape can be nothing else. A
    bare application (anything but a subclass of Container) is wrapped in a container whose
    only server it is. Raises TargetError with one line.
    """
    module_name, name = split_target(target)
    factory, name = factory or name.endswith("()"), name.removesuffix("()")
    with in_one_process(f"import of {target!r}"):
        found = _import(target, module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            have = sorted(key for key in vars(found) if not key.startswith("_"))
            raise TargetError(
                f"target {target!r}: {module_name!r} ({getattr(found, '__file__', '?')}) has no "
                f"{part!r}; it has {', '.join(have[:12]) or 'nothing public'}"
            )
        found = getattr(found, part)
    if isinstance(found, type) and issubclass(found, Container) and not factory:
        return found
    from apihour.app.bare import contained  # read by a target that is no container only

    return contained(target, found, name, factory)


def _import(target: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        from apihour.blame import blame  # read where it fails only

        why = blame(error)
        if isinstance(error, SyntaxError):  # its place is in no traceback
            place = f"{error.filename}:{error.lineno}"
            why = f"{place}: SyntaxError: {error.msg}: {(error.text or '').strip()}"
        elif isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            where = ", ".join(repr(path) for path in sys.path[:1]) or "sys.path"
            raise TargetError(
                f"target {target!r}: no module named {error.name!r}, looked in {where}"
            ) from error
        raise TargetError(f"target {target!r}: {why}") from error
