"""What other packages bring besides protocols: commands of ``apihour``, and the console process.

Rules:

- They are found by entry points, so the core names none of them.
- The group ``apihour.commands`` names functions: words in, exit status out. The group
  ``apihour.console`` names by ``process`` the package that is executed as the console process,
  by ``in_worker`` what makes a worker serve it.
- The console decides about its own keys: its package has a module ``key_files``, of the shape
  :class:`KeyFiles`.
- Two packages that bring one name are an error that names both.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from apihour.errors import PluginError

__all__ = ["COMMANDS", "CONSOLE", "KeyFiles", "command_names", "console_module", "find_command",
           "key_files"]

COMMANDS = "apihour.commands"
CONSOLE = "apihour.console"


def command_names() -> list[str]:
    """The commands that installed packages bring."""
    return sorted(entry_points(group=COMMANDS).names)


def find_command(name: str) -> Callable[[list[str]], int] | None:
    """The command of that name, None where no package brings it.

    Raises PluginError naming it when it cannot be loaded, or when two packages bring it.
    """
    entry = _only(COMMANDS, name)
    if entry is None:
        return None
    try:
        command: Callable[[list[str]], int] = entry.load()
    except Exception as error:
        raise PluginError(f"command {name!r}: {entry.value} cannot be loaded: {error!r}"
                          ) from error
    return command


@functools.cache  # what was there at the start is not looked for when a console must come back
def console_module() -> str:
    """The module that is executed as the console process.

    Raises PluginError when no package brings one, or two do.
    """
    entry = _only(CONSOLE, "process")
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


def _only(group: str, name: str) -> EntryPoint | None:
    found = list({entry.value: entry for entry in entry_points(group=group, name=name)}.values())
    if len(found) > 1:
        raise PluginError(f"entry point {name!r} of the group {group!r}: "
                          f"{' and '.join(entry.value for entry in found)}; expected one")
    return found[0] if found else None
