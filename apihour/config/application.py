"""The application as gunicorn's arbiter is given it: the configuration that is in force."""

from __future__ import annotations

import os
from collections.abc import Sequence

from apihour.config.configuration import Configuration
from apihour.config.reader import Reader
from apihour.config.settings import HostConfig

__all__ = ["HostApplication"]


class HostApplication:
    """One daemon: the sources of its configuration, and the one reading that is in force.

    That is `configuration`, swapped whole by :meth:`use`; this process is where it wants to be.
    """

    def __init__(self, arguments: Sequence[str], prog: str = "apihour") -> None:
        """Read the configuration and use it. Raises ApihourError with one line."""
        self._reader = Reader(arguments, prog)
        self.use(self._reader.read())

    def read(self, release: str = "") -> Configuration:
        """Read every source anew, and use nothing of it. Raises ApihourError with one line.

        With `release` it enters that directory in place of ``--chdir``.
        """
        return self._reader.read(release)

    def use(self, configuration: Configuration) -> None:
        """Let another reading be in force, and this process be where that wants to be."""
        self.configuration = configuration
        configuration.enter()

    def reload(self, release: str | None = None) -> None:
        """Read the configuration anew, and use it; an ApihourError changes nothing.

        `release` is as for :meth:`read`; None stays where the present one is.
        """
        self.use(self.read(self.configuration.release if release is None else release))

    @property
    def cfg(self) -> HostConfig:
        """The settings in force, as gunicorn calls them."""
        return self.configuration.cfg

    @property
    def target(self) -> str:
        """``module:Container``."""
        return self.configuration.target

    @property
    def directory(self) -> str:
        """Where the command was started."""
        return self._reader.directory

    def working_directory(self) -> str:
        """Where this process is; when a deploy has removed that, where one like it would be."""
        try:
            return os.getcwd()
        except FileNotFoundError:
            return str(self.cfg.chdir)
