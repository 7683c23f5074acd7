"""What a child finds out about an application that the arbiter must not import.

Rule: whoever calls this ends soon, or becomes what workers are forked from.
"""

from __future__ import annotations

import os

from apihour.app.target import load_target
from apihour.bind.binds import class_binds
from apihour.config.application import HostApplication

__all__ = ["examine"]


def examine(
    application: HostApplication, release: str | None = None,
) -> dict[str, list[str]] | None:
    """Read the configuration anew, import the target, return the binds it declares.

    `release` is the directory to do it in, by default that of what is in force. Raises ApihourError
    with one line, also for binds that could not be opened for their names or certificates.
    """
    from apihour.tls.certificates import verify  # here, where the arbiter has no use for it

    application.reload(release)
    cfg = application.cfg
    os.environ.update(cfg.env)  # as the workers will have it
    logger_class = cfg.logger_class
    logger_class(cfg)
    cls = load_target(application.target, cfg.factory)
    application.configuration.container_config()
    declared = class_binds(cls, cls.binds)
    verify(cfg, application.configuration.resolve(declared))
    return declared
