"""Half closing a connection whose client may be gone."""

from __future__ import annotations

import contextlib
from typing import Any

__all__ = ["end_writing"]


def end_writing(transport: Any) -> bool:
    """Say that nothing more comes; False where that cannot be said, as with TLS."""
    if not transport.can_write_eof():
        return False
    with contextlib.suppress(OSError):  # the client has reset it: who reads hears of that
        transport.write_eof()
    return True
