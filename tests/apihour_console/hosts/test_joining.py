"""A host that cannot join its fleet says why."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour_console.hosts.joining import joined
from apihour_console.key_files import FLEET_KEY
from tests.apihour_console.support import wait_until


async def test_what_nobody_foresaw_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def vanished() -> list[Any]:
        raise OSError("the scoreboard is gone")

    key = tmp_path / FLEET_KEY
    key.touch(mode=0o600)
    key.write_text("k" * 64)
    fleet: Any = SimpleNamespace(census=SimpleNamespace(workers=vanished), hosts=None)
    audit: Any = None
    async with joined(fleet, tmp_path, "shop", audit, logging.getLogger("tests.fleet"),
                      lambda: True):
        await wait_until(lambda: "this host is in no fleet" in caplog.text)
    assert "the scoreboard is gone" in caplog.text
