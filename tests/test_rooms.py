"""What the linter of imports cannot see: modules that are named by a text and imported by it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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
