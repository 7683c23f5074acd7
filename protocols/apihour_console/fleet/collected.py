"""What the workers of a fleet gave when all of them were asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Missing

__all__ = ["SILENT", "Collected"]

SILENT = ("timeout", "lost")  # kinds of CommandFailed of a worker that does not answer


@dataclass
class Collected:
    """What the workers asked gave: rows, who did not answer, who refused or failed.

    `is_lost`: one that did not answer may have begun it.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    failures: list[tuple[str, CommandFailed]] = field(default_factory=list)
    is_lost: bool = False
