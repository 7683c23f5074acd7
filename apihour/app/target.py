"""From ``module:name`` to the container class; of what is none, apihour.app.bare makes one.

Rules:

- Only workers, the probe child, ``check`` and ``dev`` call this: the arbiter must not keep
  application code imported, or a reload would not see new code.
- A failure is one line that ends with the user's own file, line and text.
"""

from __future__ import annotations

import importlib
from typing import Any

from apihour.app.container import Container
from apihour.app.forks import in_one_process
from apihour.config.naming import split_target

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
            from apihour.app.target_faults import has_none

            raise has_none(target, found, module_name, part)
        found = getattr(found, part)
    if isinstance(found, type) and issubclass(found, Container) and not factory:
        return found
    from apihour.app.bare import contained  # read by a target that is no container only

    return contained(target, found, name, factory)


def _import(target: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        from apihour.app.target_faults import cannot_import  # this and above read where it fails

        raise cannot_import(target, name, error) from error
