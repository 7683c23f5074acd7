"""Commands of ``apihour`` that other packages bring.

Rule: the entry points of the group ``apihour.commands`` name functions: words in, exit status out.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from apihour.errors import PluginError
from apihour.installed import only

__all__ = ["COMMANDS", "command_names", "find_command"]

COMMANDS = "apihour.commands"


def command_names() -> list[str]:
    """The commands that installed packages bring."""
    return sorted(entry_points(group=COMMANDS).names)


def find_command(name: str) -> Callable[[list[str]], int] | None:
    """The command of that name, None where no package brings it.

    Raises PluginError naming it when it cannot be loaded, or when two packages bring it.
    """
    entry = only(COMMANDS, name)
    if entry is None:
        return None
    try:
        command: Callable[[list[str]], int] = entry.load()
    except Exception as error:
        raise PluginError(f"command {name!r}: {entry.value} cannot be loaded: {error!r}"
                          ) from error
    return command
