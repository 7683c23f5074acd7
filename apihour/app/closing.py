"""Retiring and closing what a container made on first use, to its end.

Rule: what one of them raises is logged, and holds up neither the others nor the worker's drain.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import Any

__all__ = ["close_all", "retire_all"]


def retire_all(made: dict[str, Any], jobs: Any) -> None:
    """Have those of `made` that can retire do so; `jobs` knows what is background work."""
    for name in ("bus", "presence", "shared"):
        retire = getattr(made.get(name), "retire", None)  # not of what an application has put there
        if retire is not None:
            try:
                retire(jobs.has if jobs is not None else lambda task: False)
            except Exception:
                logging.getLogger("gunicorn.error").exception("container.%s: its end failed", name)


async def close_all(made: dict[str, Any], names: Iterable[str]) -> None:
    """Close those of `made` in the order of `names`, and forget them; what one raises is logged."""
    for name in names:
        if name in made:
            close = getattr(made.pop(name), "close", None)
            if close is None:  # an application has put something else there
                continue
            try:
                closing = close()
                if inspect.isawaitable(closing):  # not that of an older aiodns
                    await closing
            except Exception:
                logging.getLogger("gunicorn.error").exception(
                    "container.%s: its close failed", name.strip("_"))
