"""Failures that Python would write to stderr by itself, to the log: of threads, of finalizers.

Rules:

- A peer that makes the same line fail again and again is counted, not quoted each time.
- Warnings are lines of the log too.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from typing import Any, TextIO

from apihour.blame import blame, blamed

__all__ = ["FailureLog", "short", "show_warning"]

_FULL = 5  # failures of one kind that are told in full within a period
_PERIOD = 10.0  # seconds
_KINDS = 200  # kinds of failure that are counted at a time
_LONGEST = 300  # characters of a value shown


class FailureLog:
    """Tells the failures of one process; `speaker` begins each line."""

    def __init__(self, speaker: str, log: logging.Logger) -> None:
        self._speaker = speaker
        self._log = log
        self._kinds: dict[tuple[str, ...], list[float]] = {}

    def install_in_process(self) -> None:
        """Watch threads, finalizers and warnings, which would write to stderr."""
        threading.excepthook = self.in_thread
        sys.unraisablehook = self.in_finalizer
        warnings.showwarning = show_warning

    def in_thread(self, args: Any) -> None:
        """``threading.excepthook``."""
        if not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread is not None else "?"
            self.tell([f"thread {name!r}"], args.exc_value or args.exc_type(), "threads")

    def in_finalizer(self, args: Any) -> None:
        """``sys.unraisablehook``: an exception where none can be raised."""
        what = args.err_msg or "exception ignored in"
        self.tell([f"{what} {short(args.object)}"], args.exc_value or args.exc_type(), "finalizers")

    def flush(self) -> None:
        """Say how many of each kind were not told yet, and forget the kinds."""
        for kind, (_, seen) in self._kinds.items():
            if (untold := int(seen) - _FULL) > 0:
                parts = [self._speaker, *filter(None, kind)]
                self._log.error("%s", f"{': '.join(parts)}: ({untold} more of it)")
        self._kinds.clear()

    def tell(self, about: list[str], error: BaseException | None, whose: str = "") -> None:
        """Log `error`, or what is known `about` a failure without one, with its traceback.

        Those of one line and of the same `whose` are counted together: what a message quotes is
        the peer's to choose.
        """
        place = blame(error) if error is not None else ""
        parts = [self._speaker, *about, *([place] if place else [])]
        line = f"{blamed(error)}: {type(error).__name__}" if error is not None else ""
        more = self._more((whose if error is not None else about[0], line))
        if more is None:
            return
        if more:
            parts.append(f"({more} more of it in the last {_PERIOD:g} s)")
        trace = error.__traceback__ if error is not None else None
        info = (type(error), error, trace) if error is not None else None
        self._log.error("%s", ": ".join(parts), exc_info=info)

    def _more(self, kind: tuple[str, ...]) -> int | None:
        """How many of that kind were not told before this one; None: it is one more of them."""
        now = time.monotonic()
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            self.flush()
        seen = self._kinds.setdefault(kind, [now, 0.0])
        untold = 0
        if now - seen[0] > _PERIOD:
            untold = max(0, int(seen[1]) - _FULL)
            seen[:] = [now, 0.0]
        seen[1] += 1
        return untold if seen[1] <= _FULL else None


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:
    """``warnings.showwarning``, to the log.

    Not ``logging.captureWarnings()``: it would give the logger a handler that drops them.
    """
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is not None:
        file.write(text)
    else:
        logging.getLogger("py.warnings").warning("%s", " ".join(text.split()))


def short(value: object) -> str:
    """The representation of any object, bounded; it may fail."""
    try:
        return f"{value!r:.{_LONGEST}}"
    except Exception as error:
        return f"{type(value).__name__} (its repr failed: {type(error).__name__})"
