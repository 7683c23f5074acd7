"""Tables and texts that fit a terminal: columns give way in an order, words are never broken.

Rules:

- No I/O: functions over lists of numbers and lines.
- What a narrow terminal costs first is what says least: long titles of numbers, then blanks,
  then the ends of texts, then whole columns from the right; the first stays.
- A column that went is named to the operator.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Fit", "fit", "reflow", "short_title"]

_READABLE = 20  # characters of a text that stay before the blanks between columns go
_MINIMUM = 8  # characters a text keeps before other columns go
_SHORT = {
    "connections": "CONNS", "accepted": "ACC", "requests": "REQS", "requests_s": "REQ/S",
    "accepted_s": "NEW/S", "errors_s": "ERR/S", "errors": "ERRS", "refused": "REF",
    "protocol": "PROTO", "duration": "TOOK", "generation": "GEN",
    "self_percent": "SELF%", "total_percent": "TOTAL%",
}
_OPTION = re.compile(r"\[-[^ ]* [^ ]*\]")  # stays in one line: [--limit N]
_KEPT = "\0"  # stands for a blank that no line ends at
_HANGING = re.compile(r" {2,}\S+(?: \S+)* {2,}(?=\S)")


@dataclass(frozen=True)
class Fit:
    """How columns are laid out: which stay, how wide, with what between, titles shortened."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int = 2
    short: bool = False


def short_title(name: str) -> str:
    """A column's title where there is little room."""
    return _SHORT.get(name, name.upper())


def fit(
    names: Sequence[str], values: Sequence[int], texts: Sequence[bool], width: int | None,
    keep: Collection[str] = (),
) -> Fit:
    """Lay columns out over `width` characters; None: as wide as they are.

    `values`: characters of each column's widest value; `texts`: which may be cut; `keep`:
    names of columns that go last (those sorted by).
    """
    every = tuple(range(len(names)))
    whole = tuple(max(len(name), value) for name, value in zip(names, values, strict=True))
    if width is None or _length(whole, 2) <= width:
        return Fit(every, whole)
    short = [max(len(short_title(name)), value) for name, value in zip(names, values, strict=True)]
    able = [index for index in every if texts[index]]
    gap = 2
    for floor, gap in ((_READABLE, 2), (_READABLE, 1), (_MINIMUM, 1)):
        widths = _squeezed(short, able, width, gap, floor)
        if _length(widths, gap) <= width:
            return Fit(every, tuple(widths), gap, True)
    return _dropped(names, widths, gap, width, keep)


def _dropped(
    names: Sequence[str], widths: Sequence[int], gap: int, width: int, keep: Collection[str]
) -> Fit:
    kept = list(range(len(names)))
    while len(kept) > 1 and _length([widths[one] for one in kept], gap) > width:
        can = [one for one in kept[1:] if names[one] not in keep]
        kept.remove(can[-1] if can else kept[-1])
    return Fit(tuple(kept), tuple(min(widths[one], width) for one in kept), gap, True)


def _squeezed(
    widths: Sequence[int], able: Sequence[int], width: int, gap: int, floor: int
) -> list[int]:
    """Narrow the widest texts until the line fits, or none can give any more."""
    found = list(widths)
    excess = _length(found, gap) - width
    while excess > 0:
        wide = [index for index in able if found[index] > floor]
        if not wide:
            break
        widest = max(wide, key=lambda index: found[index])
        others = [found[index] for index in wide if index != widest]
        give = max(1, min(excess, found[widest] - max([floor, *others])))
        found[widest] -= give
        excess -= give
    return found


def _length(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def reflow(text: str, width: int | None) -> str:
    """`text` with its long lines wrapped between words, further lines indented as far as what
    they go on with: a paragraph, or the right half of ``--option VALUE  what it does``."""
    if width is None:
        return text
    return "\n".join(
        wrapped for line in _paragraphs(text, width) for wrapped in _wrapped(line, width)
    )


def _paragraphs(text: str, width: int) -> list[str]:
    """The lines of `text`; those of a paragraph that is too wide become one."""
    found: list[str] = []
    for prose, lines in itertools.groupby(text.split("\n"), lambda line: line[:1].strip() != ""):
        group = list(lines)
        wide = prose and max(map(len, group)) > width
        found += [" ".join(group)] if wide else group
    return found


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    hanging = _HANGING.match(line)
    indent = len(hanging[0]) if hanging else len(line) - len(line.lstrip())
    if line.startswith("usage:"):
        indent = len("usage: ")
    if indent > width // 2:
        indent = 4
    room = width - indent
    whole = _OPTION.sub(
        lambda match: match[0].replace(" ", _KEPT) if len(match[0]) <= room else match[0], line
    )
    lines = textwrap.wrap(
        whole, width, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False, replace_whitespace=False,
    )
    return [one.replace(_KEPT, " ") for one in lines] or [line]
