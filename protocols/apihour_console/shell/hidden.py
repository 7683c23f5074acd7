"""What a command line may show to others: the audit log, ``sessions``, an error's line.

Rules:

- The values of parameters that a command declares as secret (``apihour.ops.Secret``) are
  masked wherever they stand; so is all that sounds like a secret (:mod:`apihour.masking`).
- A line that cannot be read, of a command with secrets, shows the command's name alone.
- A line with a secret stays out of the history's file: what is masked there could not run.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterable, Sequence

from apihour.errors import ApihourError
from apihour.masking import MASK, mask_text, mask_words
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Command
from apihour_console.calls.parsing import parse_call

__all__ = ["has_secret", "hide_secrets"]


def hide_secrets(
    words: Sequence[str], command: Command | None
) -> tuple[str, Callable[[str], str]]:
    """The line of `words` fit to be shown, and what makes a message about it so."""
    secret = [one.name for one in command.parameters if one.type == "secret"] if command else []
    if command is None or not secret:
        shown = mask_words(words)
        return shlex.join(shown), functools.partial(_without, values=_masked(words, shown))
    catalogue = Catalogue()
    catalogue.add(command)
    try:
        arguments = parse_call(words, catalogue).arguments
    except ApihourError:
        line = shlex.join([words[0], *([MASK] if words[1:] else [])])
        return line, functools.partial(_without, values=words[1:])
    values = [str(value) for name in secret for value in _values(arguments.get(name))]
    shown = [_without(word, values) for word in mask_words(words[1:])]
    return shlex.join([words[0], *shown]), functools.partial(_without, values=values)


def has_secret(line: str, catalogue: Catalogue | None) -> bool:
    """Whether a line, or one of a pasted text, holds what nobody else may see.

    `catalogue`: of the commands that the line may call; None where it is Python's.
    """
    if catalogue is None:
        return mask_text(line, code=True) != line
    return any(_hides(one, catalogue) for one in line.splitlines())


def _hides(line: str, catalogue: Catalogue) -> bool:
    try:
        words = shlex.split(line)
    except ValueError:
        return mask_text(line) != line
    command = catalogue.get(words[0]) if words else None
    return hide_secrets(words, command)[0] != shlex.join(words)


def _masked(words: Sequence[str], shown: Sequence[str]) -> list[str]:
    """The values that are shown masked: a message may quote them without their names."""
    values = []
    for word, mask in zip(words, shown, strict=True):
        if word != mask and mask.endswith(MASK):
            values.append(word[len(mask) - len(MASK):])
    return values


def _values(given: object) -> Iterable[object]:
    if isinstance(given, list | tuple):
        return given
    return () if given in (None, "") else (given,)


def _without(text: str, values: Sequence[str]) -> str:
    quoted = {repr(value)[1:80] for value in values if len(repr(value)) > 80}  # as cut by :.80
    for value in sorted(quoted.union(values, (repr(one)[1:-1] for one in values)), key=len)[::-1]:
        end = "" if value in quoted else r"(?!\w)"
        if value:
            text = re.sub(rf"(?<!\w){re.escape(value)}{end}", MASK, text)
    return mask_text(text)
