"""Words of other shells that mean nothing here, and what to type instead.

Rules: a word in quotes is text and gets no hint; nor does a comparison (``--filter cpu>50``).
"""

from __future__ import annotations

import shlex

from apihour.errors import UsageError

__all__ = ["refuse_other_shells"]

_PIPE = "there are no pipes here; use --filter, --sort and --limit, or pipe outside: ssh HOST "
_ONE = "one command a line here; type the next after it, or give ssh HOST its lines on stdin"
_FILE = "there are no files here; redirect outside: ssh HOST "
_WORDS = {
    "|": _PIPE, "||": _ONE, "&&": _ONE, ";": _ONE, "&": _ONE, ">": _FILE, ">>": _FILE,
    "<": _FILE, "2>": _FILE, "2>&1": _FILE, "|&": _PIPE,
}


def refuse_other_shells(line: str) -> None:
    """Raise UsageError where `line` has a pipe, a redirection or several commands."""
    try:
        words = shlex.split(line, posix=False)  # quotes stay, so that what they hold is not meant
    except ValueError:
        return  # an open quote is somebody else's to refuse
    for position, word in enumerate(words):
        sign = _sign(word, first=position == 0)
        if sign:
            raise UsageError(f"{sign!r}: {_hint(sign, words[:position], word)}")


def _sign(word: str, first: bool) -> str:
    if word in _WORDS:
        return word
    if word.endswith(";") and word[0] not in "\"'":
        return ";"
    if first:
        return next((sign for sign in ("&&", ";", "|", ">") if sign in word), "")
    return ""


def _hint(sign: str, before: list[str], word: str) -> str:
    text = _WORDS[sign]
    if not text.endswith(" "):
        return text
    command = " ".join(before) or word.partition(sign)[0] or "COMMAND"
    return f"{text}{command[:60]} --csv {sign} ..."
