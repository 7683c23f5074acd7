"""Which signals the daemon obeys, and that none of them ends a process it was not meant for.

Rules:

- What we document may come to any process at any time: logrotate signals a group, a terminal
  that closes all of its processes. So between a fork or an exec and a process's own handlers
  nothing stands at its default: it waits, or is ignored.
- A blocked signal waits, across fork and exec (signal(7)); an ignored one stays ignored across
  exec. Who is started blocked lets the signals through once its handlers stand.
- A loop puts what it has handled back to the default when it is closed, so what must not kill
  is handled without it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio  # a tenth of a second, in which a daemon that starts would be without this

__all__ = [
    "ORDERS", "STOPS", "EarlyExit", "blocked", "fork_blocked", "handle_in_loop", "hold_off",
    "ignore", "let_through",
]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What ends a process that gets it, in its own time."""
ORDERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
          signal.SIGWINCH)
"""What asks the arbiter for something, and must end nobody."""


class EarlyExit(SystemExit):
    """Raised by a signal to a worker that has no loop yet, wherever it is at that moment."""


@contextmanager
def blocked(signals: Iterable[int]) -> Iterator[None]:
    """Block `signals` in this thread, and in what it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork_blocked(signals: Iterable[int]) -> int:
    """Fork; in the child `signals` stay blocked. Raises OSError as os.fork() does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def let_through(signals: Iterable[int]) -> None:
    """Unblock what this process was started with blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def ignore(signals: Iterable[int]) -> None:
    """Ignore `signals` from now on; what waits of them is dropped."""
    for sig in signals:
        signal.signal(sig, signal.SIG_IGN)


def hold_off(signals: Iterable[int]) -> None:
    """Take no notice of `signals`, and drop none that wait while they are blocked."""
    for sig in signals:
        signal.signal(sig, _take_no_notice)


def handle_in_loop(
    loop: asyncio.AbstractEventLoop, sig: int, callback: Callable[[], object]
) -> None:
    """Call `callback` in a turn of `loop` for each `sig`; once that is closed, do nothing."""

    def on_signal(number: int, frame: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    signal.signal(sig, on_signal)


def _take_no_notice(sig: int, frame: Any) -> None:
    return None
