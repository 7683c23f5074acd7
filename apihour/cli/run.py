"""``apihour run``: from a configuration that was read to the daemon."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gunicorn import util

from apihour.arbiter.arbiter import HostArbiter
from apihour.config.application import HostApplication

__all__ = ["run"]


def run(words: Sequence[str], prog: str = "apihour") -> None:
    """Become the daemon; returns never (the arbiter exits the process).

    Raises ApihourError with one line when it cannot be started.
    """
    app = HostApplication(words, prog)
    if app.cfg.print_config:
        print(app.cfg)
        sys.exit(0)
    if app.cfg.daemon:
        util.daemonize(app.cfg.enable_stdio_inheritance)
    HostArbiter(app).run()
