"""What a command line may show to others: the audit log, ``sessions``, an error's line.

Rules:

- The values of parameters that a command declares as secret (``apihour.ops.Secret``) are
  masked wherever they stand; so is all that sounds like a secret (:mod:`apihour.masking`).
- A line that cannot be read, of a command with secrets, shows the command's name alone.
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
from apihour_console.calls.reader import parse_call

__all__ = ["hide_secrets"]


def hide_secrets(
    words: Sequence[str], command: Command | None
) -> tuple[str, Callable[[str], str]]:
    """The line of `words` fit to be shown, and what makes a message about it so."""
    secret = [one.name for one in command.parameters if one.type == "secret"] if command else []
    if command is None or not secret:
        return shlex.join(mask_words(words)), mask_text
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


def _values(given: object) -> Iterable[object]:
    if isinstance(given, list | tuple):
        return given
    return () if given in (None, "") else (given,)


def _without(text: str, values: Sequence[str]) -> str:
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return mask_text(text)
