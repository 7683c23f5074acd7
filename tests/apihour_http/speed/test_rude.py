"""A moment of the clients that leave whenever they like."""

from __future__ import annotations

from pathlib import Path

from .rude import rude


async def test_nothing_of_rude_clients_goes_wrong_or_stays(tmp_path: Path) -> None:
    """More of it: tests/apihour_http/speed/sanitized -m tests.apihour_http.speed.rude."""
    assert await rude(1.5, 20260000, tmp_path) == []
