"""Fixtures of the console's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.apihour_console.support import Shells, Typist


@pytest.fixture
async def shells(tmp_path: Path) -> AsyncIterator[Shells]:
    """A running shell server with three keys."""
    found = Shells(tmp_path)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def typist() -> AsyncIterator[Typist]:
    """A pseudo-terminal."""
    found = Typist()
    yield found
    await found.close()
