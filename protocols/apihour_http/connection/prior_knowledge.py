"""A client that begins with HTTP/2's preface (RFC 9113 3.4) is handed to who speaks that.

Rules:

- It is the parser that finds the preface: llhttp stops behind one. So a request of HTTP/1 pays
  nothing for being none, and a client by ALPN and one by prior knowledge are the same here.
- It is the first that comes on a connection, or it is malformed.
"""

from __future__ import annotations

from typing import Any

from apihour_http.connection.states import CLOSED

__all__ = ["speaks_http2"]

# llhttp's words for it.
_STOPPED = "Pause on PRI/Upgrade"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def speaks_http2(intake: Any, error: Exception, data: bytes) -> bool:
    """Whether the parser of `intake` stopped behind the preface: then it is in others' hands.

    `error` is what it raised, `data` what was fed to it last.
    """
    if _STOPPED not in str(error):
        return False
    lane, make = intake.lane, intake.service.http2
    if make is None or lane.conn.requests or lane.answers.current is not None:
        return False
    end = _end_of_preface(data)
    if not end:
        return False
    protocol = make(intake.service, lane.conn)
    if protocol is None:
        return False
    rest = data[end:] + intake.held
    intake.drop()
    _hand_over(lane, protocol, _PREFACE + rest)
    return True


def _hand_over(lane: Any, protocol: Any, data: bytes) -> None:
    """Leave the transport of `lane`, and what came on it, to `protocol`."""
    transport, lane.transport = lane.transport, None
    lane.become(CLOSED)
    for part in (lane.deadlines, lane.reading, lane.intake, lane.answers):
        part.end()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    lane.service.opened.lost(lane)
    protocol.data_received(data)


def _end_of_preface(data: bytes) -> int:
    """Where the preface ends whose rest is the beginning of `data`; 0 when it is no such rest."""
    for before in range(len(_PREFACE)):
        rest = _PREFACE[before:]
        if data.startswith(rest):
            return len(rest)
    return 0
