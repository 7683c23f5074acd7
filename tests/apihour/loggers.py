"""Putting back what gunicorn's logger sets up for a whole process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

_NAMES = ("gunicorn.error", "gunicorn.access", None)


@pytest.fixture
def loggers() -> Iterator[None]:
    """The loggers of the daemon are as before after the test.

    Only gunicorn's own handlers are taken away: pytest has some there too, others in each
    phase of a test.
    """
    before = {name: logging.getLogger(name).level for name in _NAMES}
    last, basic = logging.lastResort, logging.basicConfig
    yield
    logging.lastResort, logging.basicConfig = last, basic
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(before[name])
        for handler in list(logger.handlers):
            handler.__dict__.pop("handleError", None)
            if getattr(handler, "_gunicorn", False):
                logger.removeHandler(handler)
                handler.close()
