"""The messages that docs/reference/errors.rst explains are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "reference" / "errors.rst").read_text()
# Written by Python's argparse and by the system, not here.
OTHERS = {"Address already in use", "Permission denied", "unrecognized arguments"}
_YOURS = re.compile(r"[(']?\b[A-Z]+(?:_[A-Z]+)*\b[)']?|…|: …;")  # stands for the reader's own


def messages() -> list[str]:
    """The messages in the first column of the tables."""
    cells = re.findall(r"^   \* - (.*?)\n     - ", PAGE, re.DOTALL | re.MULTILINE)
    found = [" ".join(text.split()) for cell in cells
             for text in re.findall(r"``(.+?)``", cell, re.DOTALL)]
    return [text for text in found if len(text) > 20 and " " in text and text not in OTHERS]


@cache
def texts() -> str:
    """All strings of the code, a line each, with a tab for what is put into them."""
    lines = []
    for path in (*ROOT.glob("apihour/**/*.py"), *ROOT.glob("protocols/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                lines.append("".join(str(part.value) if isinstance(part, ast.Constant) else "\t"
                                     for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value)
    return "\n".join(lines)


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_of_the_code(message: str) -> None:
    pieces = [piece.strip() for piece in _YOURS.split(message)]
    long = [piece for piece in pieces if len(piece) >= 9]
    assert [piece for piece in long if piece not in texts() and piece not in OTHERS] == []


def test_every_class_of_errors_is_explained() -> None:
    from apihour import errors

    names = [name for name in errors.__all__ if name.endswith("Error")]
    assert [name for name in names if name not in PAGE and name != "ApihourError"] == []
