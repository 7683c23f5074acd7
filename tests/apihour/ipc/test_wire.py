from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apihour.ipc.wire import MAXIMUM, FrameError, Framer, encode

json_objects = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(json_objects, max_size=5), st.integers(1, 7))
def test_messages_survive_any_cutting(messages: list[dict[str, object]], size: int) -> None:
    data = b"".join(encode(message) for message in messages)
    framer = Framer()
    found = []
    for start in range(0, len(data), size):
        found += framer.feed(data[start : start + size])
    assert found == messages


def test_too_large_is_refused_before_it_is_buffered() -> None:
    framer = Framer(maximum=100)
    with pytest.raises(FrameError, match="101 bytes; expected at most 100"):
        framer.feed((101).to_bytes(4, "big"))
    with pytest.raises(FrameError, match="expected at most"):
        encode({"x": "y" * MAXIMUM})


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b"\xff\xfe", b"1"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        Framer().feed(len(body).to_bytes(4, "big") + body)
