"""Header blocks are what the library says they are; what they unpack to is bounded."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour_http.http2.block_decoder import BlockDecoder, PlainBlockDecoder
from apihour_http.http2.fieldblocks import integer
from apihour_http.http2.frame_bytes import ConnectionBroken

names = st.sampled_from([b":method", b":path", b"cookie", b"x-a", b"x-bb", b"accept"])
values = st.sampled_from([b"GET", b"/", b"/a", b"", b"*/*"]) | st.binary(max_size=200)
decoders = pytest.mark.parametrize("make", [PlainBlockDecoder, BlockDecoder])
heads = st.lists(st.tuples(names, values), max_size=12)


@decoders
@given(st.lists(heads, max_size=20), st.booleans(), st.sampled_from([4096, 200, 0]))
def test_blocks_of_the_library(make, blocks, huffman, size):
    encoder, decoder = hpack.Encoder(), make(1 << 20)
    encoder.header_table_size = size
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields, huffman=huffman)) == fields


@decoders
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_what_the_library_says(make, blocks):
    ours, library = make(65536), hpack.Decoder()
    for block in blocks:
        try:
            expected = [tuple(pair) for pair in library.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(ConnectionBroken):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@decoders
@pytest.mark.parametrize(("block", "code"), [
    (b"\xff\xff\xff", 9),  # an integer that does not end
    (b"\xff" + b"\x80" * 60000 + b"\x01", 9),  # nor that
    (b"\xc0", 9),  # an index that the table does not have
    (b"\x80", 9),  # index 0
    (b"\x3f\xe1\x7f", 9),  # a table larger than allowed
    (b"\x82\x20", 9),  # a size behind a field
    (b"\x00", 9),  # a literal that is cut off
    (b"\x00\x01a\x05b", 9),
    (b"\x40\x01a" + integer(3900, 7, 0) + b"x" * 3900 + b"\xbe" * 100, 11),  # an HPACK bomb
])
def test_what_ends_a_connection(make, block, code):
    with pytest.raises(ConnectionBroken) as caught:
        make(65536).decode(block)
    assert caught.value.code == code
