"""Which store ``container.shared`` is: the daemon's own, or another program's."""

from __future__ import annotations

import os
from typing import Any

from apihour.shared.backend import SharedBackend

__all__ = ["chosen"]


def chosen(config: Any, path: str | os.PathLike[str]) -> SharedBackend:
    """The store that ``shared:`` of the configuration says, for the daemon at `path`.

    Raises ConfigurationError, SharedError.
    """
    options = config or {}
    if isinstance(options, str) or "url" in options:
        from apihour.shared.open_shared import open_shared

        return open_shared(options, path)
    from apihour.shared.store import Shared

    return Shared(path, **options)
