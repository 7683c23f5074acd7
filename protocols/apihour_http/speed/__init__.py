"""The hot path of a connection as an optional extension; ``compiled`` is None without it.

Rules:

- It is a subset: what it does not take is done in Python, which decides what is right. It does
  nothing that Python does not do, in the same order.
- It is built where there is a compiler (setup.py), and left out by ``APIHOUR_NO_EXTENSIONS=1``.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

__all__ = ["compiled"]


def _find() -> Any:
    if os.environ.get("APIHOUR_NO_EXTENSIONS", "0") not in ("", "0"):
        return None
    try:
        found = importlib.import_module("apihour_http.speed._speed")
    except ImportError:
        return None
    # In a checkout: built before its sources changed, it does not fit what calls it.
    built = os.stat(found.__file__ or "").st_mtime
    sources = Path(__file__).parent.glob("*.[ch]")
    return None if any(each.stat().st_mtime > built for each in sources) else found


compiled: Any = _find()
