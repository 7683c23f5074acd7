"""The runtime directory had vanished, and the arbiter has made it again: a worker goes on there.

Rule: read where that is so.
"""

from __future__ import annotations

from typing import Any

from apihour.ipc import faults
from apihour.ipc.made_again import follow_board

__all__ = ["follow"]


def follow(worker: Any, scoreboard: str) -> None:
    """Go on in the scoreboard at that path; an agent makes its files again by itself."""
    try:
        follow_board(worker.scoreboard, scoreboard, worker.row)
        worker.runtime.join()
        if worker.agent is None:
            faults.register(worker.runtime, worker.pid)
    except OSError as error:  # it has vanished again: then we are told again
        worker.log.warning("Worker %s: %s", worker.name, error)
