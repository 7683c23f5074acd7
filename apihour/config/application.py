"""The application as gunicorn's arbiter is given it: the configuration that is in force."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from apihour.bind.addresses import Address
from apihour.config.reader import Reader
from apihour.config.record import Configuration
from apihour.config.settings import HostConfig
from apihour.config.tree import ConfigTree

__all__ = ["HostApplication"]


class HostApplication:
    """One daemon: the sources of its configuration, and the one reading that is in force.

    What is in force is swapped whole, by :meth:`use`, and this process is where it wants to be.
    """

    def __init__(self, arguments: Sequence[str], prog: str = "apihour") -> None:
        """Read the configuration and use it. Raises ApihourError with one line."""
        self._reader = Reader(arguments, prog)
        self.use(self._reader.read())

    @property
    def configuration(self) -> Configuration:
        """What is in force."""
        return self._configuration

    def read(self, release: str = "") -> Configuration:
        """Read every source anew, and use nothing of it. Raises ApihourError with one line.

        With `release` it enters that directory in place of ``--chdir``.
        """
        return self._reader.read(release)

    def use(self, configuration: Configuration) -> None:
        """Let another reading be in force, and this process be where that wants to be."""
        self._configuration = configuration
        configuration.enter()

    def reload(self, release: str | None = None) -> None:
        """Read the configuration anew, and use it; an ApihourError changes nothing.

        `release` is as for :meth:`read`; None stays where the present one is.
        """
        self.use(self.read(self._configuration.release if release is None else release))

    @property
    def cfg(self) -> HostConfig:
        """The settings in force, as gunicorn calls them."""
        return self._configuration.cfg

    @property
    def target(self) -> str:
        """``module:Container``."""
        return self._configuration.target

    @property
    def tree(self) -> ConfigTree | None:
        """The directory ``etc/NAME``, when it was asked for."""
        return self._configuration.tree

    @property
    def bind_levels(self) -> tuple[tuple[str, ...], ...]:
        """The binds of each source that had some, the most important last."""
        return self._configuration.bind_levels

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for whoever starts the daemon."""
        return self._configuration.notes

    @property
    def directory(self) -> str:
        """Where the command was started."""
        directory: str = self._reader.directory
        return directory

    def working_directory(self) -> str:
        """Where this process is; when a deploy has removed that, where one like it would be."""
        try:
            return os.getcwd()
        except FileNotFoundError:
            return str(self.cfg.chdir)

    def container_config(self) -> dict[str, Any]:
        """What a container gets, from files that are read now. Raises ConfigurationError."""
        return self._configuration.container_config()

    def resolve(self, declared: Mapping[str, Sequence[str]] | None) -> dict[str, list[Address]]:
        """The binds after every override. Raises ConfigurationError."""
        return self._configuration.resolve(declared)
