"""Which workers a call is for, and in which order they are asked."""

from __future__ import annotations

from apihour_console.calls.call import Call
from apihour_console.fleet.census import Seen

__all__ = ["fitness", "target"]


def fitness(worker: Seen) -> tuple[bool, bool, int]:
    """Orders workers by how likely they answer, the newest generation first."""
    return (worker.is_stopped or worker.is_stuck, worker.row.state != "serving",
            -worker.row.generation)


def target(call: Call) -> str:
    """The selector of a call: a connection or a task says by itself which worker it is in."""
    for one in call.command.parameters:
        value = call.arguments.get(one.name)
        if isinstance(value, str) and one.type == "connection":
            return value.rpartition("-")[0] or call.worker
        if isinstance(value, str) and one.type == "task" and ":" in value:
            return value.partition(":")[0]
    return call.worker
