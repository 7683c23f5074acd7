"""Packaging: two source roots in one distribution (setup.cfg holds everything else)."""

from __future__ import annotations

from typing import Any

from setuptools import find_packages, setup

PROTOCOLS = "protocols"

packages = find_packages(include=["apihour", "apihour.*"])
plugins = find_packages(PROTOCOLS)

command_classes: dict[str, Any] = {}
try:
    # The static strategy writes a .pth with both roots, which editors and type checkers
    # read; setuptools' default import hook they do not. Its names are private.
    from setuptools.command.editable_wheel import _StaticPth, editable_wheel

    class EditableWheel(editable_wheel):
        """An editable install by a plain ``.pth`` file."""

        def _select_strategy(self, name: str, tag: str, build_lib: Any) -> Any:
            from pathlib import Path

            root = Path(self.project_dir)
            return _StaticPth(self.distribution, name, [root, root / PROTOCOLS])

    command_classes["editable_wheel"] = EditableWheel
except ImportError:
    pass

setup(
    packages=packages + plugins,
    package_dir={"": ".", **{name: f"{PROTOCOLS}/{name.replace('.', '/')}" for name in plugins}},
    package_data={name: ["py.typed"] for name in packages + plugins if "." not in name},
    cmdclass=command_classes,
)
