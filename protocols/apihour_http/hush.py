"""aiohttp's warnings of malformed parts of forms, left out: their clients write them.

Each would be a line of the log with up to 8 KB of a stranger's text, as often as it likes; what is
malformed has no name or filename, and is answered as that.
"""

from __future__ import annotations

import functools
import warnings

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam

__all__ = ["hush"]


@functools.cache
def hush() -> None:
    """Leave them out from now on, in this process."""
    for kind in (BadContentDispositionHeader, BadContentDispositionParam):
        warnings.filterwarnings("ignore", category=kind)
