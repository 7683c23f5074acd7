"""Doors: rooms that are loaded when they are needed, as they were when the daemon started.

Rule: a daemon outlives what is on the disk, for a deploy may replace this package, or the link
that leads to it, under a living one. So the code behind a door is read at the start, and run at
its first import; what is imported then is of one release.
"""

from __future__ import annotations

import importlib.abc
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import Any

__all__ = ["keep"]


class _Kept(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and runs the modules whose code it keeps."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ModuleSpec, CodeType]] = {}

    def add(self, name: str, places: Sequence[str] | None) -> Sequence[str]:
        """Read the code of a module at one of `places`, unless it is loaded already.

        Returns where its own modules are, if it is a package. Raises ImportError.
        """
        spec = PathFinder.find_spec(name, places)
        if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
            raise ImportError(f"{name}: expected a module whose code can be read", name=name)
        if name not in sys.modules:
            code = spec.loader.get_code(name)
            assert code is not None  # None is for modules of the interpreter
            spec.loader = self
            self._kept[name] = spec, code
        return spec.submodule_search_locations or []

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
        parent = sys.modules.get(name.rpartition(".")[0])
        places = kept.add(name, parent.__path__ if parent is not None else None)
        for module in pkgutil.iter_modules(places, f"{name}."):
            kept.add(module.name, places)
    sys.meta_path.insert(0, kept)
