"""The code of a document: its literal blocks, and the files that they are.

Rules:

- A block whose first line is ``# NAME`` with a suffix (``# hello.py``, ``# etc/x/main.yaml``) is
  the file of that name; the files of a page belong together.
- Python without a name that imports something is whole as well: it runs as it stands.
- Any other Python is part of something, and must be good syntax.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_START = re.compile(r"^( *)\.\. code-block:: *(\w+)$")
_NAME = re.compile(r"^(?:#|//|/\*|<!--) *([\w./-]+\.\w+|Dockerfile|Makefile)(?:[ ,:;(].*)?$")


def documents() -> list[Path]:
    """All pages: the README and its like, and those of docs/."""
    return sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/**/*.rst")])


@dataclass(frozen=True)
class Block:
    """One ``code-block`` of a page; `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def name(self) -> str | None:
        """The file that it is; None: it is none."""
        found = _NAME.match(self.text.split("\n", 1)[0])
        return found[1] if found else None

    @property
    def tree(self) -> ast.Module:
        """Its syntax; ``await`` may stand at the top. Raises SyntaxError."""
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        found = compile("\n" * (self.line - 1) + self.text, str(self.page), "exec", flags)
        assert isinstance(found, ast.Module)
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it can run by itself: it imports what it needs."""
        return any(isinstance(node, ast.Import | ast.ImportFrom) for node in self.tree.body)

    @property
    def target(self) -> str | None:
        """What ``apihour`` would serve of it: ``Container``, ``app``; None: nothing."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and "make_servers" in {
                    getattr(item, "name", "") for item in node.body}:
                return node.name
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "app":
                return "app"
        return None


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        found = _START.match(lines[number])
        number += 1
        if not found:
            continue
        while number < len(lines) and lines[number].strip()[:1] in ("", ":"):  # its options
            number += 1
        first = number
        indent = len(lines[first]) - len(lines[first].lstrip())
        while number < len(lines) and (
                not lines[number].strip() or lines[number].startswith(" " * indent)):
            number += 1
        text = "\n".join(line[indent:] for line in lines[first:number]).rstrip("\n")
        yield Block(page, first + 1, found[2], f"{text}\n")
