"""Preconditions and ranges of RFC 9110."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from apihour_http.static.conditions import Validators, accepted_ends, accepts, judge, part_of

NOW = Validators('"a-b"', 1_000_000)
SAME, BEFORE, LATER = (formatdate(seconds, usegmt=True) for seconds in (
    1_000_000, 999_999, 1_000_001))


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200),
    ({"If-None-Match": '"a-b"'}, 304), ({"If-None-Match": 'W/"a-b"'}, 304),
    ({"If-None-Match": '"x", "a-b"'}, 304), ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": '"x"'}, 200), ({"If-None-Match": "a-b"}, 200),
    ({"If-Modified-Since": SAME}, 304), ({"If-Modified-Since": LATER}, 304),
    ({"If-Modified-Since": BEFORE}, 200), ({"If-Modified-Since": "yesterday"}, 200),
    ({"If-None-Match": '"x"', "If-Modified-Since": SAME}, 200),
    ({"If-Match": '"a-b"'}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"x"'}, 412),
    ({"If-Match": 'W/"a-b"'}, 412),
    ({"If-Unmodified-Since": SAME}, 200), ({"If-Unmodified-Since": BEFORE}, 412),
    ({"If-Match": '"a-b"', "If-Unmodified-Since": BEFORE}, 200),
    ({"If-Match": '"a-b"', "If-None-Match": '"a-b"'}, 304),
])
def test_who_has_it_already(headers: dict[str, str], status: int) -> None:
    assert judge(headers, NOW) == status


@pytest.mark.parametrize(("asked", "part"), [
    ("bytes=0-9", (0, 10)), ("bytes=90-", (90, 10)), ("bytes=-10", (90, 10)),
    ("bytes=95-200", (95, 5)), ("bytes=-1000", (0, 100)), ("bytes=0-0", (0, 1)),
    ("Bytes=1-2", (1, 2)),
    ("bytes=5-2", None), ("bytes=-", None), ("bytes=0-1,5-6", None), ("lines=0-1", None),
    ("bytes=x-y", None), ("bytes=0-9999999999999999999999", None), ("", None),
])
def test_which_part_is_meant(asked: str, part: tuple[int, int] | None) -> None:
    assert part_of({"Range": asked}, 100, NOW) == part


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_end(asked: str) -> None:
    with pytest.raises(ValueError, match=r"bytes \*/100"):
        part_of({"Range": asked}, 100, NOW)
    with pytest.raises(ValueError, match=r"bytes \*/0"):
        part_of({"Range": "bytes=0-"}, 0, NOW)


def test_a_range_of_another_state_is_the_whole() -> None:
    for condition, part in (('"a-b"', (0, 1)), ('"x"', None), ('W/"a-b"', None), (SAME, (0, 1)),
                            (BEFORE, None), (LATER, None), ("x", None)):
        assert part_of({"Range": "bytes=0-0", "If-Range": condition}, 100, NOW) == part


@pytest.mark.parametrize(("header", "is_accepted"), [
    ("br", True), ("gzip, br", True), ("BR;q=0.5", True), ("br;q=0", False), ("br; q=0.0", False),
    ("gzip", False), ("", False), ("*", False), ("brotli", False), ("gzip;q=1.0 , br ;q=0.001",
                                                                    True),
])
def test_codings_that_are_accepted(header: str, is_accepted: bool) -> None:
    assert accepts(header, "br") is is_accepted


def test_who_sends_long_lists_of_codings_has_the_plain_file_for_nothing() -> None:
    assert accepted_ends("gzip, br".ljust(1000)) == (("br", ".br"), ("gzip", ".gz"))
    assert accepted_ends("gzip, br".ljust(1001)) == ()
