"""Which store ``container.shared`` is: the daemon's own, or another program's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from apihour.errors import ConfigurationError
from apihour.masking import mask_text
from apihour.shared.backend import SharedBackend, check_deadline

__all__ = ["chosen", "examine", "is_elsewhere"]


def chosen(config: Any, path: str | os.PathLike[str]) -> SharedBackend:
    """The store that ``shared:`` of the configuration says, for the daemon at `path`.

    Raises ConfigurationError, SharedError.
    """
    options = {} if config is None else config
    if is_elsewhere(options):
        from apihour.shared.open_shared import open_shared

        return open_shared(options, path)
    from apihour.shared.store import Shared

    _check(options)
    return Shared(path, **options)


def examine(config: Any) -> None:
    """Refuse what :func:`chosen` would, and open nothing. Raises ConfigurationError."""
    options = {} if config is None else config
    if is_elsewhere(options):
        chosen(options, "")
    else:
        _check(options)


def is_elsewhere(options: Any) -> bool:
    """Whether that is another program's store, which daemons of many machines may have."""
    return isinstance(options, str) or (isinstance(options, Mapping) and "url" in options)


def _check(options: Any) -> None:
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            f"shared: {mask_text(repr(options))[:80]}; expected a URL, or a mapping")
    if unknown := sorted(map(str, options.keys() - {"deadline", "limit_bytes"})):
        raise ConfigurationError(
            f"shared: {unknown[0]!r}; expected of deadline, limit_bytes, or a url")
    check_deadline(options.get("deadline", 1.0))
    if type(limit := options.get("limit_bytes", 1)) is not int or limit < 1:
        raise ConfigurationError(f"shared: limit_bytes: {limit!r:.40}; expected a number of bytes")
