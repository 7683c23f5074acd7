"""What a server's class and the configuration files ask of its connections, beside its binds."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from apihour.errors import ConfigurationError

if TYPE_CHECKING:
    from apihour.limits.bind_options import BindOptions

__all__ = ["declared_options"]


def declared_options(
    served: object, config: Mapping[str, Any], name: str
) -> BindOptions | None:
    """``bind_options`` of what ``make_servers()`` made, and of ``servers: NAME:``; None: nothing.

    Raises ConfigurationError naming where it stands, what stands there, and what was expected.
    """
    found: BindOptions | None = None
    for where, given in _given(served, config, name):
        from apihour.limits.bind_options import parse_options  # read where something is asked only

        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{where}: {given!r:.100}; expected a mapping of option to "
                                     "value")
        try:
            options = parse_options(given)
        except ValueError as error:
            raise ConfigurationError(f"{where}: expected {error}") from None
        found = options if found is None else found.updated(options)
    return found


def _given(
    served: object, config: Mapping[str, Any], name: str
) -> Iterator[tuple[str, object]]:
    # Statically: an object of the user's may do anything when it is asked.
    value = inspect.getattr_static(served, "bind_options", None)
    if value is not None:
        owner = served if isinstance(served, type) else type(served)
        yield f"{owner.__module__}.{owner.__qualname__}.bind_options", value
    sections = config.get("servers")
    section = sections.get(name) if isinstance(sections, Mapping) else None
    if isinstance(section, Mapping) and section.get("bind_options") is not None:
        yield f"servers: {name!r}: bind_options", section["bind_options"]
