"""What this host is called among those of a fleet."""

from __future__ import annotations

import os
import re
import socket

__all__ = ["host_name"]


def host_name() -> str:
    """``APIHOUR_HOST``, or the machine's name up to its first dot."""
    name = os.environ.get("APIHOUR_HOST") or socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:63] or "host"
