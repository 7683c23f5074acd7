"""What a file name says of a record: values that fit are in it, whatever bytes they are of."""

import random

import pytest

from apihour.shared.file_store import FileStore
from apihour.shared.records import INLINE, POINTER, RecordHead, parse, payload_of

ODD = [b"", b"\x01", b"\x01a", b"\x01b/\0\x01c", b"/" * 100, b"\0" * 150, b".d", b"..", b"a\nb",
       bytes(range(256))[:200], bytes(range(256))[56:], b"\xff" * 216, b"%2F\\x00", b"x" * 216]
JSON = (b'{"id":12345,"name":"Thing 12345","category":"electronics","price":123,"quantity":12,'
        b'"active":true,"tags":["fast","new","sale"],"rating":{"score":12,"count":123}}')


def named(value):
    """The head whose name holds the value, None when none does."""
    held = payload_of(value)
    if held is None:
        return None
    name = b"%d.%d.%b%b" % (10 ** 15 - 1, 10 ** 13 - 1, *held)
    assert len(name) <= 255 and b"/" not in name and b"\0" not in name
    return parse(b"/s/k/00/1/key", name)


@pytest.mark.parametrize("value", [*ODD, JSON])
def test_a_value_comes_back_from_its_name(value):
    head = named(value)
    if head is None:
        assert len(value) > INLINE
    else:
        assert head.inline == value


def test_any_small_value_is_held_and_comes_back():
    chance = random.Random(1)
    for _ in range(2000):
        value = bytes(chance.choices(b"\x01/\0abc\xff", k=chance.randrange(INLINE + 1)))
        assert named(value).inline == value


def test_what_is_too_long_is_in_a_blob():
    assert payload_of(b"x" * 217) is None and payload_of(b"/" * 151) is None
    assert RecordHead(b"/k", b"1.0.bB.9", 1, 0, POINTER, b"B.9").inline is None


@pytest.mark.parametrize("value", [*ODD, b"x" * 217, b"/" * 151])
def test_the_store_gives_back_what_it_was_given(tmp_path, value):
    store = FileStore(tmp_path / "store")
    try:
        for _ in range(2):  # a new key, and one that is there
            head = store.read(b"key")
            assert store.swap(head, value)
            assert store.value(store.read(b"key")) == value
    finally:
        store.close()
