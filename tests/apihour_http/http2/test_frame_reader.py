"""Frames are the same however they are cut; header blocks are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour_http.http2.frame_bytes import ConnectionBroken
from apihour_http.http2.frame_reader import MAX_FRAME, FrameReader, unpadded

from .support import frame

STREAM = (frame(4, 0, 0) + frame(1, 0, 1, b"ab") + frame(9, 0, 1, b"c") + frame(9, 4, 1, b"d")
          + frame(0, 1, 1, b"body") + frame(99, 0, 0, b"x") + frame(1, 5, 0x80000003, b"e"))
FRAMES = [(4, 0, 0, b""), (1, 4, 1, b"abcd"), (0, 1, 1, b"body"), (99, 0, 0, b"x"), (1, 5, 3, b"e")]


def taken(reader):
    return list(iter(reader.take, None))


@given(st.lists(st.integers(1, 20), max_size=40))
def test_the_frames_are_the_same_however_they_are_cut(sizes):
    reader, left, found = FrameReader(100), STREAM, []
    for size in [*sizes, len(STREAM)]:
        reader.feed(left[:size])
        left = left[size:]
        found += taken(reader)
    assert found == FRAMES
    assert not reader.is_amid()


def test_what_was_not_taken_stays_before_what_comes():
    reader = FrameReader(100)
    reader.feed(STREAM[:40])
    assert reader.take() == FRAMES[0]
    reader.feed(STREAM[40:])
    assert taken(reader) == FRAMES[1:]


@pytest.mark.parametrize(("data", "code"), [
    (frame(0, 0, 1, bytes(MAX_FRAME + 1)), 6),
    (frame(9, 4, 1), 1),
    (frame(1, 0, 1) + frame(0, 0, 1), 1),
    (frame(1, 0, 1) + frame(9, 4, 3), 1),
    (frame(1, 0, 1) + frame(99, 4, 1), 1),
    (frame(1, 0, 1, bytes(60)) + frame(9, 0, 1, bytes(60)), 11),
    (frame(1, 0, 1) + frame(9, 0, 1) * 16, 11),
    (frame(1, 8, 1, b"\x05abc"), 1),
])
def test_what_ends_a_connection(data, code):
    reader = FrameReader(100)
    reader.feed(data)
    with pytest.raises(ConnectionBroken) as caught:
        taken(reader)
    assert caught.value.code == code


def test_padding():
    assert unpadded(0, b"abc") == b"abc"
    assert unpadded(8, b"\x02abcd") == b"ab"
    assert unpadded(8, b"\x00abcd") == b"abcd"
    for payload in (b"", b"\x04abc"):
        with pytest.raises(ConnectionBroken):
            unpadded(8, payload)
