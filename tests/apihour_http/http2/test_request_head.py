"""What is remembered of a head, and what is not."""

from __future__ import annotations

import pytest

from apihour_http.http2.frame_bytes import StreamBroken
from apihour_http.http2.request_head import HeadJudge

PSEUDO = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


def test_a_head_that_is_refused_changes_nothing_of_what_is_remembered() -> None:
    judge = HeadJudge()
    large = [*PSEUDO, (b"x-large", b"x" * 20_000)]
    first = judge.judge(list(large))
    for _ in range(2):
        with pytest.raises(StreamBroken, match="host: expected what :authority says"):
            judge.judge([*PSEUDO, (b"host", b"another")])
    assert judge.judge(list(large)) == first, "its size counts for the limits of a head"
