"""Closing what a container made on first use, to its end."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import Any

__all__ = ["close_all"]


async def close_all(made: dict[str, Any], names: Iterable[str]) -> None:
    """Close those of `made` in the order of `names`, and forget them; what one raises is logged."""
    for name in names:
        if name in made:
            try:
                closing = made.pop(name).close()
                if inspect.isawaitable(closing):  # not that of an older aiodns
                    await closing
            except Exception:
                logging.getLogger("gunicorn.error").exception(
                    "container.%s: its close failed", name.strip("_"))
