"""What a terminal sends becomes key presses, and pastes become one press each.

Rules:

- A bracketed paste is one press whatever its size, and cut at a limit.
- A run of eight or more printable characters in one read is a paste too: at 0.7 ms a key
  the line editor would otherwise be busy for seconds after 8,000 characters.
- Escape before a control character is a key of its own: quick hands, not Meta.
- An escape sequence cut by the network waits for its rest until the editor flushes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["Keystrokes"]

_PASTE, _END = "\x1b[200~", "\x1b[201~"
_TOKEN = re.compile(
    r"(?P<sequence>\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|[^\[O\x00-\x1f]))"
    r"|(?P<cut>\x1b(?:\[[0-?]*[ -/]*|O)?$)"
    r"|(?P<run>[^\x00-\x1f\x7f]{8,})"
    r"|(?P<plain>[\s\S])"
)


class Keystrokes:
    """Splits text into plain keys for `key` and pasted text for `paste`."""

    def __init__(
        self, key: Callable[[str], None], paste: Callable[[str], None], limit: int
    ) -> None:
        self._key = key
        self._paste = paste
        self._limit = limit
        self._pasting = False
        self._pasted: list[str] = []
        self._kept = 0
        self._tail = ""

    def feed(self, text: str) -> None:
        """Take what was received."""
        text, self._tail = self._tail + text, ""
        while text:
            text = self._in_paste(text) if self._pasting else self._outside(text)

    @property
    def is_waiting(self) -> bool:
        """Whether the beginning of a sequence waits for its rest."""
        return bool(self._tail) and not self._pasting

    def flush(self) -> str:
        """Give back the beginning of a sequence whose rest never came (a lone Escape)."""
        tail, self._tail = self._tail, ""
        return "" if self._pasting else tail

    def _outside(self, text: str) -> str:
        before, mark, after = text.partition(_PASTE)
        for token in _TOKEN.finditer(before):
            if token.lastgroup == "run":
                self._paste(token[0][: self._limit])
            elif token.lastgroup == "cut" and not mark:
                self._tail = token[0]
            else:
                self._key(token[0])
        self._pasting = bool(mark)
        return after

    def _in_paste(self, text: str) -> str:
        piece, mark, after = text.partition(_END)
        if not mark:
            keep = _cut_mark(text)
            piece, self._tail = text[: len(text) - keep], text[len(text) - keep :]
        room = self._limit - self._kept
        self._pasted.append(piece[:room])
        self._kept += min(len(piece), room)
        if mark:
            self._pasting = False
            pasted, self._pasted, self._kept = "".join(self._pasted), [], 0
            self._paste(pasted)
        return after


def _cut_mark(text: str) -> int:
    """How many of the last characters may begin the mark that ends a paste."""
    for length in range(min(len(_END) - 1, len(text)), 0, -1):
        if _END.startswith(text[-length:]):
            return length
    return 0
