"""Doors: rooms that are loaded when they are needed, as they were when the daemon started.

Rule: a daemon outlives what is on the disk, for a deploy may replace this package, or the link
that leads to it, under a living one. So the code behind a door is read at the start, and run at
its first import; what is imported then is of one release.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

__all__ = ["keep"]


class _Kept(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and runs the modules whose code it keeps."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ModuleSpec, CodeType]] = {}

    def add(self, name: str) -> None:
        """Read a module's code. Raises ImportError when there is none."""
        spec = importlib.util.find_spec(name)
        if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
            raise ImportError(f"{name}: expected a module whose code can be read", name=name)
        code = spec.loader.get_code(name)
        assert code is not None  # None is for modules of the interpreter
        spec.loader = self
        self._kept[name] = spec, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._kept[fullname][0] if fullname in self._kept else None

    def get_code(self, fullname: str) -> CodeType:
        return self._kept[fullname][1]

    def get_source(self, fullname: str) -> Any:
        return None  # tracebacks read the file


def keep(names: Iterable[str]) -> None:
    """Read the code of modules, and of all that are in packages, unless they are loaded already."""
    kept = _Kept()
    for name in names:
        spec = importlib.util.find_spec(name)
        places = spec.submodule_search_locations if spec is not None else None
        inside = [one.name for one in pkgutil.iter_modules(places or [], f"{name}.")]
        for module in inside or [name]:
            if module not in sys.modules:
                kept.add(module)
    sys.meta_path.insert(0, kept)
