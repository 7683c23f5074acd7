"""Prints apihour/cli/errors.txt, what ``apihour explain`` tells, from docs/reference/errors.rst.

::

    python docs/make_errors.py > apihour/cli/errors.txt

A test compares the committed file with this output.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

_PAGE = Path(__file__).parent / "reference" / "errors.rst"
_SECTION = re.compile(r"^(?:\.\. _\w+:\n)*\n*(\w.+)\n-{5,}\n", re.MULTILINE)
_ROW = re.compile(r"^   \* - (.*?)\n     - (.*?)(?=\n   \* - |\n\n|\Z)", re.DOTALL | re.MULTILINE)


def make() -> str:
    """The whole text: ``== TITLE`` begins a section, a message has what to do below it."""
    return "".join(_lines(_PAGE.read_text()))


def _lines(page: str) -> Iterator[str]:
    _, *parts = _SECTION.split(page)
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        yield f"== {title}\n\n"
        for message, todo in _ROW.findall(body):
            if message not in ("Message", "Line"):
                yield f"{_filled(message, '')}\n{_filled(todo, '    ')}\n\n"


def _filled(text: str, indent: str) -> str:
    plain = re.sub(r"`([^`<]+?)\s+<[^>]*>`_", r"\1", " ".join(text.split()).replace("``", ""))
    return textwrap.fill(plain, 96, initial_indent=indent, subsequent_indent=indent or "  ",
                         break_on_hyphens=False)


if __name__ == "__main__":
    print(make(), end="")
