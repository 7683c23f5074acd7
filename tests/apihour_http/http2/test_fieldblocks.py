"""What is encoded, the library decodes; what is decoded is bounded."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour_http.http2.fieldblocks import BlockDecoder, block_of, integer
from apihour_http.http2.frame_bytes import ConnectionBroken

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300).map(str.encode)
known = st.sampled_from([b"content-type", b"set-cookie", b"date", b"x-y"])


@given(st.integers(200, 599), st.lists(st.tuples(known | names, st.binary(max_size=300))))
def test_an_answer_is_what_the_library_reads(status, fields):
    decoded = hpack.Decoder().decode(block_of(status, fields), raw=True)
    assert [tuple(pair) for pair in decoded] == [(b":status", b"%d" % status), *fields]


def test_a_cookie_is_not_for_tables():
    (_, cookie) = hpack.Decoder().decode(block_of(200, [(b"set-cookie", b"a=b")]), raw=True)
    assert isinstance(cookie, hpack.NeverIndexedHeaderTuple)


def test_integers_of_the_appendix():
    # RFC 7541 C.1
    assert integer(10, 5, 0) == b"\x0a"
    assert integer(1337, 5, 0) == b"\x1f\x9a\x0a"
    assert integer(42, 8, 0) == b"\x2a"


@pytest.mark.parametrize(("block", "code"), [
    (b"\xff\xff\xff", 9),  # an integer that does not end
    (b"\xc0", 9),  # an index that the table does not have
    (b"\x80", 9),  # index 0
    (b"\x3f\xe1\x7f", 9),  # a table larger than allowed
    (b"\x00", 9),  # a literal that is cut off
    (b"\x40\x01a" + integer(3900, 7, 0) + b"x" * 3900 + b"\xbe" * 100, 11),  # an HPACK bomb
])
def test_what_ends_a_connection(block, code):
    with pytest.raises(ConnectionBroken) as caught:
        BlockDecoder(65536).decode(block)
    assert caught.value.code == code
