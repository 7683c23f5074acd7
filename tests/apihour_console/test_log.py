"""The console's own log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from apihour_console.log import ConsoleLog


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, left as it was found."""
    logger, levels = logging.getLogger(), logging.getLogger("asyncssh").level
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.getLogger("asyncssh").setLevel(levels)


def test_what_its_lines_quote_steers_no_terminal(root: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "error"
    ConsoleLog("info", str(path)).logger.info("a client calls itself %s", "SSH-2.0-\x1b[2J\x9b\r")
    assert path.read_text("utf-8").endswith("a client calls itself SSH-2.0-\\x1b[2J\\x9b\\r\n")
