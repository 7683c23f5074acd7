"""A client that sends no more, as RFC 9112 9.6 has it for HTTP/1: what came whole is answered.

Rules:

- A request that is not whole never will be: its stream ends, and who serves it is told.
- The others are answered, but for those whose application takes such a client for gone
  (``must_know_of_end``): a feed, which has no end, and a call of gRPC. Then the connection ends.
- As on HTTP/1, this is not for TLS, whose connection ends with either side of it, nor where the
  end of a client is to cancel what it asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["answers_on"]


def answers_on(s: Any) -> bool:
    """Whether the connection `s`, whose client sends no more, has answers to give."""
    transport = s.transport
    if s.closing_since or transport is None or not transport.can_write_eof():
        return False
    if s.service.options.cancel_on_disconnect:
        return False
    s.amid_since = 0.0  # what was under way will not come
    for lane in list(s.streams.values()):
        if not lane.is_complete or (lane.hosted is not None and lane.hosted.must_know_of_end()):
            lane.lost()
    return bool(s.streams)
