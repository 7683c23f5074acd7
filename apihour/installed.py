"""What other packages bring besides protocols: the console process, and commands of ``apihour``.

Rules:

- They are found by entry points, so the core names none of them.
- The group ``apihour.console`` names by ``process`` the package that is executed as the console
  process, by ``in_worker`` what makes a worker serve it. Commands: apihour.cli.brought.
- The console decides about its own keys: its package has a module ``key_files``, of the shape
  :class:`KeyFiles`.
- Two packages that bring one name are an error that names both.
"""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from apihour.errors import PluginError

__all__ = ["CONSOLE", "KeyFiles", "console_module", "key_files", "only"]

CONSOLE = "apihour.console"


@functools.cache  # what was there at the start is not looked for when a console must come back
def console_module() -> str:
    """The module that is executed as the console process.

    Raises PluginError when no package brings one, or two do.
    """
    entry = only(CONSOLE, "process")
    if entry is None:
        raise PluginError(f"no console process is installed: expected an entry point 'process' of "
                          f"the group {CONSOLE!r}; install apihour anew, or use --no-console")
    return entry.module


class KeyFiles(Protocol):
    """What a daemon's start asks of its console about the files of ``--keys``."""

    def check_keys(self, directory: str, uid: int) -> None:
        """Raise ValueError, one line, when a console of user `uid` could not use what is there.

        Called in the arbiter, before anything is opened: it reads files, and no more.
        """

    def has_keys(self, directory: str) -> bool:
        """Whether anybody could log in; else only a start from a terminal opens the shell."""


def key_files() -> KeyFiles:
    """The console's. Raises PluginError when there is no console, or it says nothing of keys."""
    name = f"{console_module()}.key_files"
    try:
        return cast(KeyFiles, importlib.import_module(name))
    except Exception as error:
        raise PluginError(f"the console's {name} cannot be loaded: {error!r}") from error


def only(group: str, name: str) -> EntryPoint | None:
    """The entry point of that name, if there is one. Raises PluginError when there are two."""
    found = list({entry.value: entry for entry in entry_points(group=group, name=name)}.values())
    if len(found) > 1:
        raise PluginError(f"entry point {name!r} of the group {group!r}: "
                          f"{' and '.join(entry.value for entry in found)}; expected one")
    return found[0] if found else None
