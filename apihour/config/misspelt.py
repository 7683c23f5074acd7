"""Names of a configuration file that are no setting, but nearly: ``timout = 3``.

Rules:

- The file is Python, and may have helpers, imports and functions of its own. What is meant
  here is a name that the file gives a value and never reads, and that is one letter or so from
  a setting: it can have no other use.
- Nothing is run: the text is parsed.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Misspelt", "find_misspelt"]

_ALIKE = 0.8  # of difflib's ratio; timout and timeout have 0.92, port and proxy_protocol 0.44


class Misspelt(NamedTuple):
    """A name, the line it stands in, and the setting it seems to mean."""

    name: str
    line: int
    setting: str


def find_misspelt(text: str | bytes, settings: Mapping[str, Any]) -> Misspelt | None:
    """The first misspelt name of a file that python has run already."""
    tree = ast.parse(text)
    read = {node.id for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    meant = _names(settings)
    for name, line in _given(tree):
        if name in settings or name in read or name.startswith("_"):
            continue
        near = difflib.get_close_matches(name.lower(), meant, 1, _ALIKE)
        if near:
            return Misspelt(name, line, meant[near[0]])
    return None


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by their own names and by those of their options."""
    names = {name: name for name in settings}
    for name, setting in settings.items():
        for option in setting.cli or ():
            if option.startswith("--"):
                names.setdefault(option[2:].replace("-", "_"), name)
    return names


def _given(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What the statements at the top level, or below an if or try there, give a value."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.decorator_list:  # else the decorator has a use for it
                yield node.name, node.lineno
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.lineno
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting[:0] = list(ast.iter_child_nodes(node))
        elif isinstance(node, ast.ExceptHandler):
            waiting[:0] = node.body
