"""The entries of one worker as pages, each a value in the store: a join writes one page, not all.

``apihour.presence/at/SUBJECT/SESSION.N`` is a page, where the dots of the subject are slashes (and
its slashes dots), so that keys with a prefix are those of a pattern's first tokens. SESSION is one
life of one worker, ``apihour.presence/by/SESSION`` its sign of life.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from apihour.bus.subjects import matches

__all__ = ["PREFIX", "OwnPages", "Page", "alive_key", "is_page_of", "page_prefix", "read_key"]

PREFIX = "apihour.presence/"
AT, BY = f"{PREFIX}at/", f"{PREFIX}by/"
SIZE = 16_000  # bytes of a page: some 250 entries, written in 0.2 ms
_SWAPPED = str.maketrans("./", "/.")


def alive_key(session: str) -> str:
    """The key that says that a session lives."""
    return BY + session


def page_prefix(pattern: str) -> str:
    """What the keys of all pages begin with whose subject may match."""
    literal = list(itertools.takewhile(lambda token: token not in ("*", ">"), pattern.split(".")))
    return AT + "".join(token.translate(_SWAPPED) + "/" for token in literal)


def read_key(key: str) -> tuple[str, str] | None:
    """Session and subject of a page's key, session and nothing of a sign of life; None: neither."""
    if key.startswith(BY):
        return key.removeprefix(BY), ""
    place, slash, rest = key.removeprefix(AT).rpartition("/")
    if not key.startswith(AT) or not slash:
        return None
    return rest.partition(".")[0], place.translate(_SWAPPED)


def is_page_of(pattern: str, key: str) -> bool:
    """Whether a key is of a page whose subject matches."""
    found = read_key(key)
    return found is not None and bool(found[1]) and matches(pattern, found[1])


@dataclass(eq=False)
class Page:
    """Some of the entries of a subject."""

    key: str
    subject: str
    lines: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    written: float = 0.0  # monotonic

    @property
    def value(self) -> bytes:
        return b"\n".join(self.lines.values())


class OwnPages:
    """All pages of one session."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._by_key: dict[str, Page] = {}
        self._at: dict[str, list[Page]] = {}  # by subject
        self._of: dict[int, Page] = {}  # by number of an entry

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._of)

    def all(self) -> list[Page]:
        """Those that have entries."""
        return list(self._by_key.values())

    def find(self, key: str) -> Page | None:
        """The page of that key, if it has entries."""
        return self._by_key.get(key)

    def add(self, subject: str, number: int, line: bytes) -> Page:
        """Put a line on a page that has room."""
        size = len(line) + 1
        page = next((one for one in self._at.get(subject, ()) if one.size + size <= SIZE), None)
        if page is None:
            page = self._new(subject)
        page.lines[number] = line
        page.size += size
        self._of[number] = page
        return page

    def remove(self, number: int) -> Page | None:
        """Take a line off its page, if it is on one; an empty page is none."""
        page = self._of.pop(number, None)
        if page is None:
            return None
        page.size -= len(page.lines.pop(number)) + 1
        if not page.lines:
            del self._by_key[page.key]
            self._at[page.subject].remove(page)
            if not self._at[page.subject]:
                del self._at[page.subject]
        return page

    def _new(self, subject: str) -> Page:
        head = f"{AT}{subject.translate(_SWAPPED)}/{self._session}."
        key = next(key for number in itertools.count() if (key := f"{head}{number}")
                   not in self._by_key)
        page = self._by_key[key] = Page(key, subject)
        self._at.setdefault(subject, []).append(page)
        return page
