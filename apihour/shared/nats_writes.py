"""A write in NATS: how long it holds, whose it is, and what a refusal of one is worth.

Rules:

- A leader that was cut off answers for some seconds beside the new one, often before it, and
  refuses by what it had when it was cut off: the new one may have taken the same write.
- So each write that depends on a revision has a name, by which who has written knows what is his.
"""

from __future__ import annotations

import math
import re
from typing import Any

from apihour.shared.backend import check_ttl

__all__ = ["WRITE", "is_behind", "is_refusal", "is_removal", "lasting"]

WRITE = "Apihour-Write"  # the header with the name
_WRONG_SEQUENCE = (10071, 10164)  # error codes of nats-server
_SAID = re.compile(r"wrong last sequence: (\d{1,20})")


def is_refusal(error: object) -> bool:
    """Whether NATS says that the last message of the subject is another than was expected."""
    return getattr(error, "err_code", 0) in _WRONG_SEQUENCE


def is_behind(error: object, sequence: int) -> bool:
    """Whether who refuses what was to follow `sequence` has not come that far itself."""
    found = _SAID.search(str(getattr(error, "description", "")))
    return found is not None and int(found[1]) < sequence


def lasting(key: str, ttl: float | None) -> dict[str, str]:
    """The header that says how long it holds; `ttl` in seconds."""
    check_ttl(key, ttl)
    return {} if ttl is None else {"Nats-TTL": f"{math.ceil(ttl)}s"}


def is_removal(headers: Any) -> bool:
    """Whether a message says that there is nothing: ours, or NATS's own at an expiry."""
    return bool(headers) and (
        headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers)
