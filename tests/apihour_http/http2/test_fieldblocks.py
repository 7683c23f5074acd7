"""What is encoded, the library decodes."""

from __future__ import annotations

import hpack
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from apihour_http.http2.fieldblocks import _NAMES, _STATUSES, block_of, integer

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300).map(str.encode)
known = st.sampled_from([b"content-type", b"set-cookie", b"date", b"x-y"])


@given(st.integers(200, 599), st.lists(st.tuples(known | names, st.binary(max_size=300))))
def test_an_answer_is_what_the_library_reads(status, fields):
    decoded = hpack.Decoder().decode(block_of(status, fields), raw=True)
    assert [tuple(pair) for pair in decoded] == [(b":status", b"%d" % status), *fields]


def test_every_known_name_is_the_one_of_the_appendix():
    # RFC 7541 A, as the library has it; a wrong number is another field for the client.
    table = [name for name, _ in HeaderTable.STATIC_TABLE]
    assert {name: table[index - 1] for name, index in _NAMES.items()} == {
        name: name for name in _NAMES}
    for status in (*_STATUSES, 201, 599):
        (told,) = hpack.Decoder().decode(block_of(status, []), raw=True)
        assert tuple(told) == (b":status", b"%d" % status)


def test_a_cookie_is_not_for_tables():
    (_, cookie) = hpack.Decoder().decode(block_of(200, [(b"set-cookie", b"a=b")]), raw=True)
    assert isinstance(cookie, hpack.NeverIndexedHeaderTuple)


def test_integers_of_the_appendix():
    # RFC 7541 C.1
    assert integer(10, 5, 0) == b"\x0a"
    assert integer(1337, 5, 0) == b"\x1f\x9a\x0a"
    assert integer(42, 8, 0) == b"\x2a"
