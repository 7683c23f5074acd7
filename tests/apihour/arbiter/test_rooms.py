"""The arbiter's parts know its books and one another's roles, never the arbiter."""

from __future__ import annotations

from pathlib import Path

import apihour.arbiter

ROOMS = ("arbiter", "orders", "reload", "template", "upgrade", "books")
CORE = Path(apihour.arbiter.__file__).parents[1]


def test_no_part_names_the_arbiter() -> None:
    parts = sorted(path for room in ROOMS for path in (CORE / room).glob("*.py")
                   if path.name != "arbiter.py")
    assert len(parts) > 30
    assert [path.name for path in parts if "HostArbiter" in path.read_text()] == []
