"""What JetStream says against a request: for good, or until its cluster has a leader again."""

from __future__ import annotations

from typing import Any

__all__ = ["is_passing"]

_NOT_ENABLED = (0, 10039, 10076)  # error codes of nats-server; 0: nobody answers for it at all
_IN_PROCESS = "message id is in process"  # it was sent before, its copies are not confirmed yet
_CLOSED = ("ConnectionClosedError", "ConnectionDrainingError")


def is_passing(error: Any) -> bool:
    """Whether the same request may be answered in a while: no leader yet, or no connection."""
    from nats.errors import Error
    from nats.js.errors import APIError

    if isinstance(error, APIError):
        if _IN_PROCESS in (error.description or ""):
            return True
        return error.code == 503 and (error.err_code or 0) not in _NOT_ENABLED
    return (isinstance(error, OSError | TimeoutError)
            or (isinstance(error, Error) and type(error).__name__ not in _CLOSED))
