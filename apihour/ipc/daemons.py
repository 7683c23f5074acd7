"""What is seen of a daemon in its runtime directory, by who is none of its arbiter and workers.

Rule: read by who looks: console, ``apihour ctl``, an arbiter that takes over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apihour.ipc.holds import is_locked
from apihour.ipc.runtime import Runtime

__all__ = ["has_arbiter", "read_instance", "scoreboards"]


def scoreboards(runtime: Runtime) -> list[tuple[int, Path]]:
    """The scoreboards there are, as (arbiter pid, path), oldest arbiter first."""
    found = [
        (int(path.suffix[1:]), path)
        for path in runtime.path.glob("scoreboard.*")
        if path.suffix[1:].isdigit()
    ]
    return sorted(found, key=lambda pair: _age(pair[1]))


def read_instance(runtime: Runtime) -> dict[str, Any]:
    """What instance.json says; empty when there is none yet."""
    try:
        facts = json.loads(runtime.instance_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def has_arbiter(runtime: Runtime) -> bool:
    """Whether an arbiter of this daemon lives."""
    return any(is_locked(path) for _, path in scoreboards(runtime))


def _age(path: Path) -> int:
    """When it was last written; one that goes in this moment is the oldest."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
