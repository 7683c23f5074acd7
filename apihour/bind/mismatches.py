"""Why servers and binds do not go together: both sides, by name.

Rule: read where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apihour.errors import ConfigurationError

__all__ = ["mismatch", "several_kinds"]


def mismatch(made: Any, names: list[str]) -> ConfigurationError:
    """What ``make_servers()`` returned does not match the binds of those names."""
    if isinstance(made, list | tuple):
        return ConfigurationError(
            f"make_servers() returned a list of {len(made)} for {len(names)} "
            f"bind{'s' * (len(names) != 1)} ({', '.join(names)}); expected one server per bind"
        )
    if not isinstance(made, Mapping):
        return ConfigurationError(
            f"make_servers() returned {made!r}; expected a dict by bind name, or a list"
        )
    nameless = [name for name in names if name.isdigit()]
    homeless = [str(name) for name in made if name not in names]
    orphans = [name for name in names if name not in made and name not in nameless]
    parts = []
    if len(homeless) != len(nameless) and not (len(homeless) == 1 and nameless):
        parts += [f"server {name!r} has no bind" for name in homeless[:1]]
        orphans = orphans or nameless
    parts += [f"bind {name!r} has no server" for name in orphans[:1]]
    return ConfigurationError(
        f"{' and '.join(parts) or 'servers and binds do not match'}; make_servers() returned "
        f"{', '.join(map(str, made)) or 'nothing'}, binds are {', '.join(names) or 'none'}"
        + ("" if made else "; a container that serves nothing says so: binds = None")
    )


def several_kinds(name: str, found: Sequence[str]) -> ConfigurationError:
    """A server has binds for streams and for datagrams, or none."""
    return ConfigurationError(
        f"server {name!r}: its binds are of several kinds ({', '.join(found)}); "
        "expected stream binds or datagram binds"
    )
