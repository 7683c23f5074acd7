"""``apihour explain NAME``: what to do about an error, as the documentation has it, offline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from apihour.errors import UsageError

__all__ = ["explain"]

_USAGE = """\
usage: apihour explain [NAME]

What to do about the errors of that name; without one, which names there are.
"""


def explain(words: Sequence[str]) -> int:
    """Print it. Raises UsageError for a name that is not one."""
    if words and words[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    _, *sections = files("apihour.cli").joinpath("errors.txt").read_text().split("== ")
    if not words:
        print(*(section.partition("\n")[0] for section in sections), sep="\n")
        return 0
    for section in sections:
        title = section.partition("\n")[0]
        if len(words) == 1 and words[0].isidentifier() and (
                words[0] in title.partition(":")[0].split(", ") or f"({words[0]})" in section):
            print(section, end="")
            return 0
    names = [name for section in sections if ":" in section.partition("\n")[0]
             for name in section.partition(":")[0].split(", ")]
    raise UsageError(f"explain: {' '.join(words)!r}; expected one of {', '.join(names)}")
