"""One terminal's prompt_toolkit among many in the same process.

Rules:

- prompt_toolkit keeps "the" running application in a context variable, and whoever sets
  none shares one with the whole process: keys would be handled by, and drawn on, the
  terminal that asked last. So each run has an application session of its own, around the
  whole run and not only around the construction.
- No signal is taken: SIGWINCH tells of the daemon's terminal, never of a client's, and the
  handlers of two runs that overlap would restore each other.
- What prompt_toolkit remembers of a session beyond its end is dropped: its filters of the editing
  modes live as long as the process, and cache what each session's are joined with (8 kB of each).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prompt_toolkit.application import create_app_session
from prompt_toolkit.filters import Condition, emacs_mode, vi_mode

if TYPE_CHECKING:
    from prompt_toolkit.input.base import Input
    from prompt_toolkit.output.base import Output

    from apihour_console.text.terminal import Terminal

__all__ = ["leave_signals", "own_application"]


@contextmanager
def own_application(
    terminal: Terminal, input: Input, output: Output, redraw: Callable[[], None]
) -> Generator[None, None, None]:
    """What runs inside is the application of that terminal and of no other.

    `redraw` is called when the terminal got another size meanwhile.
    """
    before, terminal.resized = terminal.resized, redraw
    try:
        with create_app_session(input=input, output=output):
            yield
    finally:
        terminal.resized = before
        _drop_handler()  # that of another application, "restored" by this one
        _forget_focus()


def _forget_focus() -> None:
    """Whoever else is there has its filter joined again; those of the library stay."""
    for mode in (emacs_mode, vi_mode):
        for one in list(mode._and_cache):
            if isinstance(one, Condition) and one.func.__name__ == "has_focus_filter":
                del mode._and_cache[one]


def leave_signals() -> None:
    """For ``pre_run``: drop the SIGWINCH handler as soon as the application has set it."""
    asyncio.get_running_loop().call_soon(_drop_handler)


def _drop_handler() -> None:
    asyncio.get_running_loop().remove_signal_handler(signal.SIGWINCH)
