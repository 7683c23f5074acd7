"""The operations catalogue: one typed function per command, everything else derived from it.

Rules:

- Registration validates fully, then stores.
- A name is taken once. A command that goes before one of the same name, whose rows it merges,
  says so where it is declared; any other is refused, and both functions are named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from apihour.errors import ConfigurationError
from apihour.ops.derive import derive
from apihour.ops.model import Command, Role, Scope, validate

__all__ = ["Catalogue", "CatalogueEntry", "command"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__apihour_command__"


@dataclass(frozen=True)
class CatalogueEntry:
    """A command and what carries it out; no function: it is carried out elsewhere.

    One that `merges` may go before another catalogue's command of its name.
    """

    command: Command
    function: Callable[..., Any] | None = None
    merges: bool = False

    @property
    def origin(self) -> str:
        """Where it is declared, for messages."""
        if self.function is None:
            return f"command {self.command.name!r}"
        return f"{self.function.__module__}.{self.function.__qualname__}"


class Catalogue:
    """Commands by name."""

    def __init__(self) -> None:
        self._entries: dict[str, CatalogueEntry] = {}

    def command(
        self, name: str = "", *, merges: bool = False, **declared: Any
    ) -> Callable[[F], F]:
        """Decorator: register the function as a command.

        `declared` are fields of :class:`Command` (``role`` also by name, ``grouped`` as a
        dataclass, ``collects``, ``scope``, ``deadline``, ``extends``...); `merges`: see
        :meth:`update`. Raises ConfigurationError when the function cannot be a command.
        """

        def register(function: F) -> F:
            self.add(derive(function, name, **declared), function, merges)
            return function

        return register

    def add(
        self, command: Command, function: Callable[..., Any] | None = None,
        merges: bool = False,
    ) -> None:
        """Add one command. Raises ConfigurationError when its name is taken."""
        validate(command)
        if command.name in self._entries:
            raise ConfigurationError(f"command {command.name!r}: the name is taken")
        self._entries[command.name] = CatalogueEntry(command, function, merges)

    def update(self, other: Catalogue) -> None:
        """Add all commands of another; those that merge go before the ones of their name.

        Raises ConfigurationError, and adds none, when a name is taken by one that another
        does not say to merge.
        """
        taken = [name for name in sorted(self._entries.keys() & other._entries.keys())
                 if not other._entries[name].merges]
        if taken:
            clashes = (f"{name} ({other._entries[name].origin} and {self._entries[name].origin})"
                       for name in taken)
            raise ConfigurationError(
                f"commands {', '.join(clashes)}: the names are taken; expected other names, or "
                "merges=True where a command goes before another")
        self._entries.update(other._entries)

    @classmethod
    def of(cls, owner: object) -> Catalogue:
        """The commands that the class of `owner` (a container) declares with :func:`command`."""
        catalogue = cls()
        for name in dir(type(owner)):
            declared = getattr(inspect.getattr_static(type(owner), name), _MARK, None)
            if declared is not None:
                method = getattr(owner, name)
                given = {"collects": "loop", "application": True, **declared}
                catalogue.add(derive(method, bound=True, **given), method)
        return catalogue

    def entry(self, name: str) -> CatalogueEntry | None:
        """The entry of that name, or None."""
        return self._entries.get(name)

    def get(self, name: str) -> Command | None:
        """The command of that name, or None."""
        found = self._entries.get(name)
        return found.command if found else None

    def __iter__(self) -> Iterator[Command]:
        return iter([self._entries[name].command for name in sorted(self._entries)])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def command(
    name: str = "", *, role: str | Role = Role.OPERATOR, scope: Scope = "one",
    deadline: float = 10.0,
) -> Callable[[F], F]:
    """Decorator for methods of a container: an application's own command of the shell.

    It runs in the worker's loop, on `scope`: any ``one`` worker, ``all``, or all with the
    ``first`` answer taken. `deadline`: seconds.
    """
    declared = {"name": name, "role": role, "scope": scope, "deadline": deadline}

    def mark(function: F) -> F:
        setattr(function, _MARK, declared)
        return function

    return mark
