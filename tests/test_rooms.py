"""What the linter of imports cannot see: modules named by a text, and names given twice."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent.name for path in (ROOT / "protocols").glob("*/__init__.py"))
# Whom each may name besides itself: the console serves its shell over SSH.
MAY_NAME = {"apihour_console": {"apihour_ssh"}}


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The texts of a module, each with its line; what stands alone only tells people."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value


def named(path: Path, modules: list[str]) -> list[str]:
    """Where a module of `modules` is named in a text of that file."""
    pattern = re.compile(rf"\b({'|'.join(modules)})\b")
    return [f"{path.relative_to(ROOT)}:{line}: {found[0]}"
            for line, text in texts(path.read_text()) for found in pattern.finditer(text)]


def test_a_module_in_a_text_is_found() -> None:
    source = '"""Of apihour_http."""\nX = "apihour_http.server"\ndef f(): "apihour_http"\n'
    assert list(texts(source)) == [(2, "apihour_http.server")]


def test_the_core_names_no_plugin() -> None:
    assert [place for path in sorted((ROOT / "apihour").rglob("*.py"))
            for place in named(path, PLUGINS)] == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_names_no_other(plugin: str) -> None:
    others = [name for name in PLUGINS if name != plugin and name not in MAY_NAME.get(plugin, ())]
    assert [place for path in sorted((ROOT / "protocols" / plugin).rglob("*.py"))
            for place in named(path, others)] == []


# Modules that have a name in common since each is the same thing where it is.
SAME = {
    "__main__": "what python -m runs",
    "activity": "what a connection is doing: as the core asks for it, as HTTP tells it",
    "adapter": "what registers a plugin with the core",
    "authorized": "OpenSSH's file of authorised keys: the console's adds roles",
    "context": "what a command is given: by a worker, by the console",
    "errors": "the exceptions of a package",
    "host": "what runs an application behind the HTTP connection: aiohttp's, ASGI's",
    "limits": "what one client may take of a server",
    "log": "the log of a process: the daemon's, its console's",
    "private": "the names that a dependency keeps private",
    "process": "one kind of process: worker, template, console; and the commands about one",
    "processes": "what proc(5) says of processes",
    "routes": "routes of HTTP, and the commands that show them",
    "server": "the server of a plugin",
    "servers": "a worker's servers, and the commands that show them",
    "settings": "the settings of a process: the daemon's, its console's",
}


def sources() -> list[Path]:
    """Every module of the core and the plugins."""
    return sorted(path for folder in ("apihour", "protocols")
                  for path in (ROOT / folder).rglob("*.py"))


def types_of(source: str) -> Iterator[str]:
    """The classes that a module defines, and its aliases of types."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name


def twice(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """The names that are given in more than one place, and where."""
    places: dict[str, list[str]] = {}
    for name, path in named:
        places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_a_name_that_is_given_twice_is_found() -> None:
    source = "class A:\n    class B: pass\nWords = list[str]\nMOST = 3\nwords = []\n"
    assert sorted(types_of(source)) == ["A", "B", "Words"]
    assert twice([("A", ROOT / "a"), ("B", ROOT / "a"), ("A", ROOT / "b")]) == {"A": ["a", "b"]}


def test_no_type_has_the_name_of_another() -> None:
    assert twice(
        (name, path) for path in sources() for name in types_of(path.read_text())) == {}


def test_modules_of_one_name_are_the_same_thing() -> None:
    found = twice((path.stem, path) for path in sources() if path.stem != "__init__")
    assert found.keys() == SAME.keys(), "a name that says two things, or one that SAME has in vain"


# What is imported on use only: a daemon that uses none of it pays for none of it.
ON_USE = ("bus", "cpu", "engines", "presence", "proxied", "shared", "single", "testing")


def test_a_daemon_loads_nothing_of_what_is_imported_on_use() -> None:
    code = "import sys, apihour.cli.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    optional = tuple(f"apihour.{room}" for room in ON_USE)
    assert "apihour.arbiter.arbiter" in done.stdout.split()
    assert [name for name in done.stdout.split()
            if name.startswith((*optional, "apihour.tls."))] == []
