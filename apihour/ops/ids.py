"""What connections and tasks are called by operators, so that no id is ever given twice."""

from __future__ import annotations

__all__ = ["Ids"]

_DIGITS = 18  # of a number; more are nobody's


class Ids:
    """Ids of one worker process: ``1.2-17`` is connection 17 of worker 1.2, ``1.2:17`` a task.

    `start` counts the processes that have had that name: when the first one has died or was
    replaced, the next one's are ``1.2-2.17``, and an id of the first is nobody's any more.
    """

    def __init__(self, worker: str, start: int = 1) -> None:
        self.worker = worker
        self._before = f"{start}." if start > 1 else ""

    def write(self, mark: str, number: int) -> str:
        """The id of a number; `mark` is what stands between it and the worker's name."""
        return f"{self.worker}{mark}{self._before}{number}"

    def read(self, mark: str, text: str) -> int | None:
        """The number of an id, ``17`` or ``1.2-17``; None when it is no id of this process."""
        worker, _, number = text.rpartition(mark)
        if worker not in ("", self.worker) or not number.startswith(self._before):
            return None
        number = number.removeprefix(self._before)
        return int(number) if number.isdecimal() and len(number) <= _DIGITS else None
