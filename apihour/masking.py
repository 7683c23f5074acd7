"""What is secret in a text that others will read: one rule for settings, commands and logs.

Rules:

- A name that sounds like a secret makes its value one: ``--token VALUE``, ``password = VALUE``,
  ``"api_key": "VALUE"``, ``os.environ["TOKEN"] = VALUE``, ``set_token(VALUE)``. So do a URL's
  password and what follows ``Bearer``. Masking too much is the better mistake.
- A value is taken whole, as a shell or Python would: quoted, in brackets, in parts that stand
  together; a quote that nothing closes goes on to the end.
- What is masked keeps its name: a reader sees that there was something.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["MASK", "error_text", "is_secret", "mask_text", "mask_url", "mask_words"]

MASK = "********"

_WORDS = (r"pass|pwd|secret|token|api[_-]?key|access[_-]?key|[_-]key$|private|credential|auth"
          r"|dsn|cookie|salt|bearer")
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_HEADER = re.compile(r"(?:[\w-]*-)?(?:authorization|cookie)", re.IGNORECASE)
_SCHEMES = {"basic", "bearer", "digest", "negotiate", "token"}  # RFC 9110, section 11.1
# Passwords with an "@" of their own are taken whole too. Here and below the parts that may be
# long exclude what the next one begins with: time grows with the text alone.
_IN_URL = re.compile(r"(://[^\s:/@]*):[^\s/]+@")
_NAME = re.compile(r"(?<![\w-])[\w-]+")
_ASSIGNED = re.compile(r"""\\*["']?[\])]*\s*([-+|!=<>~:]{0,2}=[=>~]?|:)\s*""")
_LISTED = re.compile(r"""\\*["']\s*,\s*|\(\s*""")  # ("token", VALUE), set_token(VALUE)
_BLANK = re.compile(r"\s+")
_OPENS = re.compile(r"""(\\*)(\"{3}|'{3}|["'])""")
_GOES_ON = re.compile(r"""\s*[+%|=]\s*|\s+(?:or|and|if|else)\s+|\s+(?=["'])""")
_LAST_NAME = re.compile(r"(?<![\w-])([\w-]+)([^\w-]*)$")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_SEPARATOR = re.compile(r"[-+|!<>~]?[=:]+")


def error_text(error: BaseException) -> str:
    """``Kind: text`` of what was raised; of an application's class whose text fails, too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:
        return f"{type(error).__name__}, whose text fails: {type(failure).__name__}"


def is_secret(name: str) -> bool:
    """Whether a setting, variable or option of that name holds a secret."""
    return name == "KEY" or bool(_SECRET.search(name))


def mask_url(text: str) -> str:
    """`text` without the passwords of URLs."""
    return _IN_URL.sub(rf"\1:{MASK}@", text)


def mask_text(text: str, code: bool = False) -> str:
    """`text` without the passwords of URLs and the values of secret names.

    What stands unquoted behind a colon goes on to the end of its line (``password: two words``);
    in `code`, where ``if token: go()`` is said too, only a header's does.
    """
    return _masked(mask_url(text), code, False)


def mask_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, without the values of secret options and names."""
    shown: list[str] = []
    follows = ""
    for word in words:
        one, follows = _masked_next(word, follows)
        shown.append(one)
    return shown


def _masked_next(word: str, follows: str) -> tuple[str, str]:
    """A word by what the one before said of it, and what it says of the next.

    That is "value"; "rest", all to the next option; "separator", a value if one comes; or "".
    """
    if follows == "separator" and (found := _SEPARATOR.match(word)):
        value = word[found.end():]
        return (word.removesuffix(value) + MASK, "") if value else (word, "value")
    if follows == "rest" and not _OPTION.match(word):
        return MASK, "rest"
    if follows == "value":
        if _SEPARATOR.fullmatch(word):
            return word, "value"
        return MASK, "value" if word.lower() in _SCHEMES else ""
    return _masked_word(word), _what_follows(word)


def _masked_word(word: str) -> str:
    """One word of a shell's: who quoted it meant all of it."""
    name = _NAME.search(word)
    if name is not None and not word[:name.start()].strip("{[(\"'") and is_secret(name[0]):
        assigned = _ASSIGNED.match(word, name.end())
        if assigned and word[:1] not in "{[" and assigned.end() < len(word):
            return word[:assigned.end()] + MASK
    return _masked(mask_url(word), False, True)


def _what_follows(word: str) -> str:
    """What the end of a word says of the next one: see :func:`_masked_next`."""
    last = _LAST_NAME.search(word)
    if last is None:
        return ""
    name, behind = last[1], last[2]
    # A word of ``[("token", "x")]`` whose quotes a shell took away ends with a comma.
    has_separator = _SEPARATOR.search(behind) or ("," in behind and word[0] in "[({")
    if name.lower() == "bearer" or (name.lower() in _SCHEMES and _masked_word(word) != word):
        return "value"
    if not is_secret(name):
        return ""
    if has_separator:
        return "rest" if _HEADER.fullmatch(name) else "value"
    return "value" if _OPTION.fullmatch(word) else "separator"


def _masked(text: str, code: bool, is_word: bool) -> str:
    parts: list[str] = []
    done = at = 0
    while name := _NAME.search(text, at):
        at = name.end()
        start = _value_start(text, name)
        if start is None or start >= len(text):
            continue
        end = _value_end(text, name, start, code, is_word)
        if end > start and text[start:end].strip("\"'\\") != MASK:
            parts += text[done:start], MASK
            done = end
        at = max(at, end)
    return "".join((*parts, text[done:]))


def _value_start(text: str, name: re.Match[str]) -> int | None:
    """Where the value of a name begins; None where the name is no secret's or has none."""
    if not is_secret(name[0]):
        return None
    found = _ASSIGNED.match(text, name.end()) or _LISTED.match(text, name.end())
    if found is None and (name[0].startswith("-") or name[0].lower() == "bearer"):
        found = _BLANK.match(text, name.end())
    return None if found is None else found.end()


def _value_end(text: str, name: re.Match[str], start: int, code: bool, is_word: bool) -> int:
    """Where a value ends; quotes are taken with it, but for those around its name too."""
    before = re.search(r"""\\*["']$""", text[max(0, name.start() - 8):name.start()])
    closed = _OPENS.match(text, name.end()) is not None
    if before and not closed:  # "password=two words"
        opened = _OPENS.fullmatch(before[0])
        end = _closing(text, start, opened) if opened is not None else len(text)
        return _part_end(text, end) if text[end:end + 3] in ("'\"'", "\"'\"") else end
    if _OPENS.match(text, start) or closed:
        return _part_end(text, start)
    separator = text[name.end():start]
    if is_word or (":" in separator and "=" not in separator
                   and (not code or _HEADER.fullmatch(name[0]))):
        end = text.find("\n", start)
        return len(text) if end < 0 or is_word else end
    return _part_end(text, start)


def _part_end(text: str, at: int) -> int:
    """The end of what stands together, outside of quotes and brackets."""
    depth = 0
    while at < len(text):
        if opened := _OPENS.match(text, at):
            at = min(len(text), _closing(text, opened.end(), opened) + len(opened[0]))
            continue
        character = text[at]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        if depth < 0 or (depth == 0 and (character.isspace() or character in ",;")):
            goes_on = _GOES_ON.match(text, at)
            if depth < 0 or goes_on is None:
                break
            at = goes_on.end()
        else:
            at += 2 if character == "\\" else 1
    return min(at, len(text))


def _closing(text: str, at: int, opened: re.Match[str]) -> int:
    """Where the quote closes that was `opened`, at its backslashes; the end if nowhere."""
    level, quote = len(opened[1]), opened[2]
    for found in re.compile(rf"(\\*){quote}").finditer(text, at):
        count = len(found[1])
        if (count % 2 == 0) if level == 0 else (count <= level):
            return found.end(1) if level == 0 else found.start()
    return len(text)
