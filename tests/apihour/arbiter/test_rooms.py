"""The arbiter's parts know its books and one another's roles, never the arbiter."""

from __future__ import annotations

from pathlib import Path

import apihour.arbiter

ROOM = Path(apihour.arbiter.__file__).parent


def test_no_part_names_the_arbiter() -> None:
    parts = sorted(path for path in ROOM.glob("*.py") if path.name != "arbiter.py")
    assert len(parts) > 20
    assert [path.name for path in parts if "HostArbiter" in path.read_text()] == []
