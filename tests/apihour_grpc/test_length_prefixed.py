"""Messages and metadata, on bytes."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour_grpc.length_prefixed import MessageReader, framed
from apihour_grpc.metadata import decoded, encoded, message_field, message_of, timeout_of
from apihour_grpc.status import CallEnded, number_of

RESOURCE_EXHAUSTED, INTERNAL, UNIMPLEMENTED = 8, 13, 12


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 30), max_size=40))
def test_messages_are_the_same_however_they_are_cut(messages, sizes):
    data = b"".join(map(framed, messages))
    reader, found = MessageReader(100, b""), []
    for size in [*sizes, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == messages
    assert not reader.is_amid()


def squeezed(message):
    return gzip.compress(message, mtime=0)  # ids of tests are the same in each process


def packed(message, packer=squeezed):
    data = packer(message)
    return b"\1" + len(data).to_bytes(4, "big") + data


def read(data, encoding, most=1000):
    reader = MessageReader(most, encoding)
    return [reader.opened(message) for message in reader.feed(data)]


def test_packed_messages():
    assert read(packed(b"hello"), b"gzip") == [b"hello"]
    assert read(packed(b"hello", zlib.compress), b"deflate") == [b"hello"]


def test_what_waits_for_a_service_is_kept_as_small_as_it_came():
    bomb = packed(bytes(1_000_000))
    found = MessageReader(1_000_000, b"gzip").feed(bomb * 20)
    assert sum(map(len, found)) < 20 * len(bomb)
    assert len(found) == 20


@pytest.mark.parametrize(("data", "encoding", "code"), [
    (b"\0\0\0\x04\0", b"", RESOURCE_EXHAUSTED),
    (packed(bytes(100_000)), b"gzip", RESOURCE_EXHAUSTED),  # a bomb
    (packed(b"x"), b"", INTERNAL),
    (packed(b"x"), b"br", UNIMPLEMENTED),
    (b"\1\0\0\0\x02ab", b"gzip", INTERNAL),
    (packed(b"hello", lambda m: squeezed(m)[:-4]), b"gzip", INTERNAL),
])
def test_what_ends_a_call(data, encoding, code):
    with pytest.raises(CallEnded) as caught:
        read(data, encoding)
    assert caught.value.code == code


def test_metadata_goes_there_and_back():
    pairs = [("x-a", "text, more"), ("y-bin", b"\0\xff"), ("y-bin", b"")]
    assert decoded(encoded(pairs)) == pairs
    assert decoded([(b"a-bin", b"AAE=,AAI"), (b"te", b"trailers"), (b"grpc-x", b"1")]) == [
        ("a-bin", b"\0\1"), ("a-bin", b"\0\2")]
    with pytest.raises(ValueError, match="a-bin: expected Base64"):
        decoded([(b"a-bin", b"A")])


@pytest.mark.parametrize("pair", [
    ("X-Upper", "a"), ("grpc-status", "0"), ("content-type", "a"), ("a b", "c"), ("a", "b\r\nc: d"),
    ("a", "ü"), ("a-bin", "text"), ("a", b"bytes"), (":path", "/"),
])
def test_metadata_that_cannot_be_sent(pair):
    with pytest.raises(ValueError, match="metadata"):
        encoded([pair])


@given(st.text(max_size=200))
def test_a_message_for_people_goes_there_and_back(text):
    field = message_field(text)
    assert message_of(field) == text
    assert all(0x20 <= byte < 0x7F for byte in field)


def test_timeouts():
    assert [timeout_of(value) for value in (b"1H", b"2M", b"3S", b"4m", b"5u", b"6n")] == (
        pytest.approx([3600, 120, 3, 0.004, 5e-6, 6e-9]))
    assert [timeout_of(value) for value in (b"", b"S", b"1", b"-1S", b"123456789S", b"1s")] == [
        None] * 6


def test_codes():
    import grpc
    from grpclib.const import Status

    assert [number_of(code) for code in (5, grpc.StatusCode.NOT_FOUND, Status.NOT_FOUND)] == [5] * 3
    for wrong in (17, "x", None, True):
        with pytest.raises(TypeError, match="status"):
            number_of(wrong)
