"""What is secret in a text that others will read: one rule for settings, commands and logs.

Rules:

- A name that sounds like a secret makes its value one: ``--token VALUE``, ``password=VALUE``,
  ``"api_key": "VALUE"``. So does a URL's password. Masking too much is the better mistake.
- What is masked keeps its name: a reader sees that there was something.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["MASK", "is_secret", "mask_text", "mask_url", "mask_words"]

MASK = "********"

_WORDS = r"pass|secret|token|api[_-]?key|private|credential|auth|dsn|cookie|salt"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_IN_URL = re.compile(r"(?<!\w)(\w{1,20}://[^\s:/@]{0,200}):[^\s@/]{1,500}@")
# name=value and "name": value; what is quoted is taken whole. Here and above each name is tried
# once, from its beginning, and every part is bounded: time grows with the text alone.
_PAIR = re.compile(
    r"""(?<![\w-])([\w-]{1,100})(["']?\s{0,3}[=:]\s{0,3})("[^"]*"|'[^']*'|[^\s,;)}\]]+)""")
_OPTION = re.compile(r"--?([A-Za-z][\w-]*)")


def is_secret(name: str) -> bool:
    """Whether a setting, variable or option of that name holds a secret."""
    return bool(_SECRET.search(name))


def mask_url(text: str) -> str:
    """`text` without the passwords of URLs."""
    return _IN_URL.sub(rf"\1:{MASK}@", text)


def mask_text(text: str) -> str:
    """`text` without the passwords of URLs and the values of secret names."""
    return _PAIR.sub(_masked_pair, mask_url(text))


def mask_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, without the values of secret options and names."""
    shown: list[str] = []
    is_value = False
    for word in words:
        option = _OPTION.fullmatch(word)
        shown.append(MASK if is_value else mask_text(word))
        is_value = not is_value and option is not None and is_secret(option[1])
    return shown


def _masked_pair(pair: re.Match[str]) -> str:
    name, between, _ = pair.groups()
    return f"{name}{between}{MASK}" if is_secret(name) else pair[0]
