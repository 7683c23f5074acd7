"""Names that a dependency keeps private are used in one module for each, with a reason there.

A name with one underscore on an object is private to whose it is; it may be ours when this very
module defines it. What Python documents though it has an underscore is no secret of anybody.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTED = {"os._exit", "sys._getframe", "sys._current_frames"}
NAMEDTUPLE = {"_replace", "_asdict", "_fields"}  # collections.namedtuple documents them
PRIVATE = (
    "apihour/ipc/private.py",  # gunicorn, the standard library; tests/apihour/ipc/test_private.py
    "apihour/ops/private.py",  # the standard library; tests/apihour/ipc/test_private.py
    "apihour/tls/libssl.py",  # of ssl; tests/apihour/tls/test_libssl.py
    "apihour/engines/asyncpg_private.py",  # tests/apihour/engines/test_asyncpg_private.py
    "apihour/engines/psycopg_private.py",  # tests/apihour/engines/test_psycopg_private.py
    "apihour/bus/nats_private.py",  # tests/apihour/bus/test_nats_private.py
    "protocols/apihour_proxy/aiodns_private.py",  # tests/apihour_proxy/test_lookup.py
    "protocols/apihour_ssh/_asyncssh.py",  # tests/apihour_ssh/test_asyncssh.py
    "protocols/apihour_http/aiohttp/",  # tests/apihour_http/
    "protocols/apihour_console/text/isolation.py",  # prompt_toolkit; text/test_isolation.py
)
# Attributes of classes of a dependency that ours derive from.
DERIVED = {
    "protocols/apihour_console/faces/ssh_connection.py": {  # its test: faces/test_ssh.py
        "_session", "_validate_openssh_certificate"},
    "apihour/arbiter/arbiter.py": {"_stats"},  # gunicorn's counters; ipc/test_private.py
    "apihour/books/children.py": {"_stats"},
}


def defined(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def foreign(source: str) -> Iterator[str]:
    """The private names in a module that it does not define: ``LINE: EXPRESSION``."""
    tree = ast.parse(source)
    own = set(defined(tree))
    for node in ast.walk(tree):
        name, shown = "", ""
        if isinstance(node, ast.Attribute):
            name, shown = node.attr, ast.unparse(node)
            of_super = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if (name in own and not of_super) or shown in DOCUMENTED or name in NAMEDTUPLE:
                continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            word = node.args[1]
            name = str(word.value) if isinstance(word, ast.Constant) else ""
            shown = ast.unparse(node)
            if name in own:
                continue
        if name.startswith("_") and not name.startswith("__"):
            yield f"{node.lineno}: {shown}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", ["apihour", "protocols"])
def test_private_names_of_dependencies_are_in_their_modules(room: str) -> None:
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(PRIVATE):
            found += [f"{name}:{line}" for line in foreign(path.read_text())
                      if not any(line.endswith(one) for one in DERIVED.get(name, ()))]
    assert found == []


@pytest.mark.parametrize("line", [
    "def f(task): return task._callbacks", "def f(x): return getattr(x, '_parent_task', None)",
    "class A(B):\n    def _g(self): return super()._g()",
])
def test_one_is_found(line: str) -> None:
    assert list(foreign(line))


@pytest.mark.parametrize("line", [
    "import os\nos._exit(1)", "class A:\n    def __init__(self): self._x = 1\n    def f(self, o): "
    "return o._x", "def f(x): return x.__dict__", "def f(row): return row._replace(a=1)",
])
def test_what_is_ours_or_documented_is_not(line: str) -> None:
    assert not list(foreign(line))
