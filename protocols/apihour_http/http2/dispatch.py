"""What is done with each frame of a client (RFC 9113 6), and what is wrong with which.

Rule: a frame that breaks one stream resets it; one that breaks what all streams stand on (their
order, the tables of HPACK, the windows) ends the connection.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import Any

from apihour_http.errors import BadRequest
from apihour_http.http2.allowance import FRAME, MOST_STREAMS, RESET, STREAM_WINDOW
from apihour_http.http2.beginnings import begin, end_body, take_body
from apihour_http.http2.frame_bytes import (
    ACK,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MOST_WINDOW,
    PING,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    ConnectionBroken,
    StreamBroken,
    frame,
)
from apihour_http.http2.frame_reader import MAX_FRAME, unpadded
from apihour_http.http2.request_head import check_trailer_fields
from apihour_http.http2.stream_lane import StreamLane

__all__ = ["ENDED", "RESET_BY_CLIENT", "RESET_BY_US", "handle"]

# How a stream ended. What comes on one that we have reset was on its way: it is ignored (5.1).
ENDED, RESET_BY_US, RESET_BY_CLIENT = range(3)

_TABLE_SIZE, _PUSH, _WINDOW_SIZE, _FRAME_SIZE = 1, 2, 4, 5  # 6.5.2
_USUAL_TABLE = 4096
_LARGEST_FRAME = (1 << 24) - 1


def handle(s: Any, kind: int, flags: int, number: int, payload: bytes) -> None:
    """Handle one frame of the connection `s`. Raises ConnectionBroken."""
    if not s.is_settled and kind != SETTINGS:
        raise ConnectionBroken(PROTOCOL_ERROR, "expected SETTINGS first")
    if kind >= len(_HANDLERS):
        s.allowance.spend(FRAME, s.began)  # 4.1: one that is not known is ignored
        return
    try:
        _HANDLERS[kind](s, flags, number, payload)
    except StreamBroken as error:
        s.allowance.spend(FRAME if error.code == REFUSED_STREAM else RESET, s.began)
        lane = s.streams.get(number)
        if lane is None:
            s.reset(number, error.code)
        else:
            lane.break_off(error.code)


def _on_data(s: Any, flags: int, number: int, payload: bytes) -> None:
    size = len(payload)
    s.window_in -= size
    if s.window_in < 0:
        raise ConnectionBroken(FLOW_CONTROL_ERROR, "more than the connection's window")
    lane = s.streams.get(number)
    if lane is None or lane.is_complete:
        s.credit_connection(size)
        _check_known(s, number)
        _check_past(s, number, PROTOCOL_ERROR if lane is None else STREAM_CLOSED)
        return
    lane.window_in -= size
    if lane.window_in < 0:
        raise StreamBroken(FLOW_CONTROL_ERROR, "more than the stream's window")
    data = unpadded(flags, payload)
    if len(data) < size:
        s.credit(lane, size - len(data))
    if data:
        take_body(lane, data)
    elif not flags & END_STREAM:
        s.allowance.spend(FRAME, s.began)
    if flags & END_STREAM and lane.transport is not None:
        end_body(lane)


def _on_headers(s: Any, flags: int, number: int, payload: bytes) -> None:
    if not number % 2:
        raise ConnectionBroken(PROTOCOL_ERROR, f"a request on stream {number}")
    block = unpadded(flags, payload)
    depends = -1
    if flags & PRIORITY_FLAG:
        if len(block) < 5:
            raise ConnectionBroken(FRAME_SIZE_ERROR, "HEADERS without the priority it announces")
        depends = int.from_bytes(block[:4], "big") & MOST_WINDOW
        block = block[5:]
    decoded = s.decode(block)
    ended = bool(flags & END_STREAM)
    lane = s.streams.get(number)
    if lane is not None:
        _end_by_trailers(lane, decoded, ended)
    elif number <= s.last:
        _check_past(s, number, PROTOCOL_ERROR)
    else:
        s.last = number
        if depends == number:
            raise StreamBroken(PROTOCOL_ERROR, "a stream that depends on itself")
        _open(s, number, decoded, ended)


def _open(s: Any, number: int, decoded: list[tuple[bytes, bytes]], ended: bool) -> None:
    if s.farewell.refuses(number) or len(s.streams) + len(s.orphans) >= MOST_STREAMS:
        raise StreamBroken(REFUSED_STREAM, "too many streams")
    head = s.judge(decoded)
    lane = s.streams[number] = StreamLane(s, number, s.out.initial, STREAM_WINDOW)
    s.conn.requests += 1
    s.conn.state = "request"
    lane.is_complete = ended
    if not ended:
        lane.body_since = s.began
        s.watch.soon()
    begin(lane, head, ended)


def _end_by_trailers(lane: Any, decoded: list[tuple[bytes, bytes]], ended: bool) -> None:
    if lane.is_complete:
        raise StreamBroken(STREAM_CLOSED, "a head behind the end of a stream")
    if not ended:
        raise StreamBroken(PROTOCOL_ERROR, "trailers that do not end their stream")
    check_trailer_fields(decoded)
    try:
        lane.service.checker.check_trailers(decoded)
    except BadRequest as error:
        raise StreamBroken(PROTOCOL_ERROR, error.detail) from None
    end_body(lane)


def _on_priority(s: Any, flags: int, number: int, payload: bytes) -> None:
    """Ignored: it is deprecated (5.3.2); its form is not."""
    s.allowance.spend(FRAME, s.began)
    if not number:
        raise ConnectionBroken(PROTOCOL_ERROR, "PRIORITY of the connection")
    if len(payload) != 5:
        raise StreamBroken(FRAME_SIZE_ERROR, "PRIORITY: expected 5 bytes")
    if int.from_bytes(payload[:4], "big") & MOST_WINDOW == number:
        raise StreamBroken(PROTOCOL_ERROR, "a stream that depends on itself")


def _on_reset(s: Any, flags: int, number: int, payload: bytes) -> None:
    if len(payload) != 4:
        raise ConnectionBroken(FRAME_SIZE_ERROR, "RST_STREAM: expected 4 bytes")
    _check_known(s, number)
    s.was_reset(number)
    s.allowance.spend(RESET, s.began)


def _on_settings(s: Any, flags: int, number: int, payload: bytes) -> None:
    size = len(payload)
    if number:
        raise ConnectionBroken(PROTOCOL_ERROR, "SETTINGS of a stream")
    if size % 6 or (flags & ACK and size):
        raise ConnectionBroken(FRAME_SIZE_ERROR, f"SETTINGS of {size} bytes")
    s.allowance.spend(FRAME * (1 + size // 6), s.began)
    if flags & ACK:
        return
    s.is_settled = True
    for name, value in iter_unpack(">HL", payload):
        if name == _WINDOW_SIZE:
            _change_windows(s, value)
        elif name == _TABLE_SIZE and value < _USUAL_TABLE:
            s.table_update = b"\x20"  # RFC 7541 4.2: we use none of it
        elif name == _PUSH and value > 1:
            raise ConnectionBroken(PROTOCOL_ERROR, f"ENABLE_PUSH {value}: expected 0 or 1")
        elif name == _FRAME_SIZE and not MAX_FRAME <= value <= _LARGEST_FRAME:
            raise ConnectionBroken(PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}: expected at least "
                                   f"{MAX_FRAME}, at most {_LARGEST_FRAME}")
    s.out.send(frame(SETTINGS, ACK, 0))


def _change_windows(s: Any, value: int) -> None:
    """The windows of all streams change by what the setting does (6.9.2)."""
    if value > MOST_WINDOW:
        raise ConnectionBroken(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE over 2**31 - 1")
    change, s.out.initial = value - s.out.initial, value
    for lane in list(s.streams.values()):
        lane.window += change
        if lane.window > MOST_WINDOW:
            raise ConnectionBroken(FLOW_CONTROL_ERROR, "a window of a stream over 2**31 - 1")
        if change > 0 and lane.pending:
            s.out.go_on(lane)


def _on_push(s: Any, flags: int, number: int, payload: bytes) -> None:
    raise ConnectionBroken(PROTOCOL_ERROR, "PUSH_PROMISE is a server's")


def _on_ping(s: Any, flags: int, number: int, payload: bytes) -> None:
    if number:
        raise ConnectionBroken(PROTOCOL_ERROR, "PING of a stream")
    if len(payload) != 8:
        raise ConnectionBroken(FRAME_SIZE_ERROR, "PING: expected 8 bytes")
    if flags & ACK:
        s.farewell.heard(payload)
    else:
        s.out.send(frame(PING, ACK, 0, payload))
    s.allowance.spend(FRAME, s.began)


def _on_goaway(s: Any, flags: int, number: int, payload: bytes) -> None:
    """The client opens no more streams; those it has are answered (6.8)."""
    if number:
        raise ConnectionBroken(PROTOCOL_ERROR, "GOAWAY of a stream")
    if len(payload) < 8:
        raise ConnectionBroken(FRAME_SIZE_ERROR, "GOAWAY: expected 8 bytes at least")
    s.allowance.spend(FRAME, s.began)


def _on_window(s: Any, flags: int, number: int, payload: bytes) -> None:
    if len(payload) != 4:
        raise ConnectionBroken(FRAME_SIZE_ERROR, "WINDOW_UPDATE: expected 4 bytes")
    size = int.from_bytes(payload, "big") & MOST_WINDOW
    s.allowance.spend(FRAME, s.began)
    if not number:
        if not size:
            raise ConnectionBroken(PROTOCOL_ERROR, "WINDOW_UPDATE of 0 bytes")
        s.out.widen(size)
        return
    _check_known(s, number)
    if not size:
        raise StreamBroken(PROTOCOL_ERROR, "WINDOW_UPDATE of 0 bytes")
    lane = s.streams.get(number)
    if lane is None:
        return
    lane.window += size
    if lane.window > MOST_WINDOW:
        raise StreamBroken(FLOW_CONTROL_ERROR, "a window over 2**31 - 1")
    if lane.pending:
        s.out.go_on(lane)


def _check_known(s: Any, number: int) -> None:
    """Raise ConnectionBroken for a stream that was never opened (5.1)."""
    if number > s.last or not number % 2:
        raise ConnectionBroken(PROTOCOL_ERROR, f"stream {number} was never opened")


def _check_past(s: Any, number: int, code: int) -> None:
    """Judge a frame of a stream that is no more, or sends no more (5.1).

    Raises what it broke; with `code` where nothing is known of the stream.
    """
    how = s.past.get(number)
    if how == RESET_BY_US:
        s.allowance.spend(FRAME, s.began)
    elif how == RESET_BY_CLIENT or number in s.streams:
        raise StreamBroken(STREAM_CLOSED, f"stream {number} has ended")
    else:
        raise ConnectionBroken(code if how is None else STREAM_CLOSED,
                               f"stream {number} is no more, or was left out")


def _on_continuation(s: Any, flags: int, number: int, payload: bytes) -> None:
    raise AssertionError("header blocks are put together before")


_HANDLERS = (_on_data, _on_headers, _on_priority, _on_reset, _on_settings, _on_push, _on_ping,
             _on_goaway, _on_window, _on_continuation)
