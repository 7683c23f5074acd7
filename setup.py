"""Packaging: two source roots in one distribution (setup.cfg holds everything else)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.sdist import sdist

PROTOCOLS = "protocols"

packages = find_packages(include=["apihour", "apihour.*"])
plugins = find_packages(PROTOCOLS)

# The template of `apihour new`: none of it is Python, by its name, so it is data of the package.
starter = [str(path.relative_to("apihour")) for path in sorted(Path("apihour/starter").rglob("*"))
           if path.is_file()]

command_classes: dict[str, Any] = {}
try:
    # The static strategy writes a .pth with both roots, which editors and type checkers
    # read; setuptools' default import hook they do not. Its names are private.
    from setuptools.command.editable_wheel import _StaticPth, editable_wheel

    class EditableWheel(editable_wheel):
        """An editable install by a plain ``.pth`` file."""

        def _select_strategy(self, name: str, tag: str, build_lib: Any) -> Any:
            root = Path(self.project_dir)
            return _StaticPth(self.distribution, name, [root, root / PROTOCOLS])

    command_classes["editable_wheel"] = EditableWheel
except ImportError:
    pass


class Sdist(sdist):
    """A source archive with everything the tests and ``make`` need.

    By suffix, not by whole directories: a checkout in use has private keys in it.
    """

    SUFFIXES = ("py", "c", "h",
                "rst", "ini", "yaml", "svg", "html", "json", "lua", "sh", "txt", "typed")
    DIRECTORIES = ("tests", "examples", "docs", "benchmarks", "apihour", PROTOCOLS)
    FILES = ("Makefile", "CHANGELOG.rst", "CONTRIBUTING.rst", "SECURITY.rst",
             ".gitignore", ".ci/*", "keys/README.rst",
             "keys/.gitignore")

    def make_distribution(self) -> None:
        for directory in self.DIRECTORIES:
            for suffix in self.SUFFIXES:
                self.filelist.recursive_include(directory, f"*.{suffix}")
        for pattern in self.FILES:
            self.filelist.include(pattern)
        self.filelist.recursive_include("apihour/starter", "*")
        self.filelist.remove_duplicates()
        super().make_distribution()


command_classes["sdist"] = Sdist

# The hot path of a connection, compiled where that can be: `optional` makes a failure a warning,
# and the package works without it. CFLAGS add to these, as CI's -Werror does.
SPEED = f"{PROTOCOLS}/apihour_http/speed"
extensions = [
    Extension(
        "apihour_http.speed._speed",
        [f"{SPEED}/{name}.c" for name in (
            "scan", "received", "message", "plan", "begin", "answer", "lane", "huffman", "blocks",
            "judge", "cached", "files", "frames", "number", "module")],
        depends=[f"{SPEED}/{name}.h" for name in ("scan", "speed", "hpack")],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra",
                            "-Wno-missing-field-initializers"],
        optional=True,
    ),
] if os.environ.get("APIHOUR_NO_EXTENSIONS", "0") in ("", "0") else []

setup(
    packages=packages + plugins,
    package_dir={"": ".", **{name: f"{PROTOCOLS}/{name.replace('.', '/')}" for name in plugins}},
    package_data={
        **{name: ["py.typed"] for name in packages + plugins if "." not in name},
        "apihour": ["py.typed", "cli/errors.txt", *starter],
    },
    cmdclass=command_classes,
    ext_modules=extensions,
)
