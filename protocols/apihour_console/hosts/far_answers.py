"""What another host answers, read with care: it may be of another version, or not a friend.

Rules:

- A host answers for itself alone: what its rows say of their host does not count.
- An answer that cannot be read is the failure of that one host, and named; the others' are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apihour.ops.model import Column, CommandFailed
from apihour_console.calls.call import Missing, Result

__all__ = ["number_in", "of_host", "read_result"]


def read_result(answer: Mapping[str, Any]) -> Result:
    """The result that a letter holds. Raises CommandFailed when it holds none."""
    try:
        return _read(answer)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CommandFailed(f"its answer cannot be read ({error!r:.80}); expected the same "
                            "version on all hosts") from error


def _read(answer: Mapping[str, Any]) -> Result:
    columns = tuple(Column(str(name), str(kind)) for name, kind in answer["columns"])
    missing = [Missing(str(one["worker"]), str(one["reason"]), str(one.get("what", "worker")))
               for one in answer["missing"]]
    rows, status = answer["rows"], int(answer["status"])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError("rows that are none")
    if not 0 <= status <= 255:
        raise ValueError(f"status {status:.3g}")
    text, error = (None if answer[name] is None else str(answer[name])
                   for name in ("text", "error"))
    return Result(columns, rows, missing, status, text, error, str(answer["detail"]))


def of_host(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that says, first, which host it is of."""
    return {"host": name, **row} | {"host": name}


def number_in(facts: Mapping[str, Any], name: str) -> int:
    """A number that a host tells of itself; 0 when it is none."""
    found = facts.get(name)
    return found if isinstance(found, int) else 0
