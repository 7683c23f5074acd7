"""The extension's part in HTTP/2: header blocks, Huffman's code, and heads like the last one."""

from __future__ import annotations

from typing import Any

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from apihour_http.http2.fieldblocks import integer
from apihour_http.http2.frame_bytes import StreamBroken
from apihour_http.http2.request_head import HeadJudge
from apihour_http.speed import compiled

from . import blocks

pytestmark = pytest.mark.skipif(
    compiled is None, reason="the extension is not built, or left out")

LENGTHS = bytes(REQUEST_CODES_LENGTH)
TABLE = tuple((bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE)


def decoder(most: int = 65536) -> Any:
    return compiled.Blocks(most, compiled.Codes(LENGTHS, TABLE))


def coded(text: bytes) -> bytes:
    return bytes(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text))


def literal(value: bytes, first: int) -> bytes:
    return b"\x00\x01a" + integer(len(value), 7, first) + value


def test_it_decodes_as_python_does() -> None:
    """More of it: python -m tests.apihour_http.speed.blocks --blocks 1000000."""
    assert blocks.differing(20260000, 4000) is None


@pytest.mark.parametrize("size", [1, 2, 7, 60, 300, 5000])
def test_every_symbol_of_the_code(size: int) -> None:
    text = bytes(range(256)) * (size // 256 + 1)
    for at in range(0, 256, 31):
        part = text[at:at + size]
        assert decoder().decode(literal(coded(part), 0x80)) == [(b"a", part)]


@pytest.mark.parametrize("text", [
    coded(b"a") + b"\xff",  # padding of a byte
    coded(b"a")[:-1] + b"\x18",  # padding that is no beginning of the end
    b"\xff\xff\xff\xff",  # the end itself
    b"\xff\xff\xff\xfc" * 9,
    b"\xff",
])
def test_what_is_no_text(text: bytes) -> None:
    with pytest.raises(ValueError, match="Huffman"):
        decoder().decode(literal(text, 0x80))


def test_a_table_of_as_many_entries_as_there_can_be() -> None:
    made = decoder()
    entry = b"\x40\x00\x00"  # two empty texts: 32 bytes, of 4096
    assert made.decode(entry * 300) == [(b"", b"")] * 300
    assert made.decode(integer(61 + 128, 7, 0x80)) == [(b"", b"")]
    with pytest.raises(ValueError, match="an index that there is not"):
        made.decode(integer(61 + 129, 7, 0x80))
    assert made.decode(b"\x20" + entry) == [(b"", b"")]
    with pytest.raises(ValueError, match="an index that there is not"):
        made.decode(b"\xbe")


def test_what_is_not_given_right() -> None:
    for wrong in ((LENGTHS[:-1], TABLE), (LENGTHS, TABLE[:-1]), (bytes(257), TABLE),
                  (bytes([30]) * 257, TABLE), (bytes([1]) * 257, TABLE)):
        with pytest.raises(ValueError, match="expected"):
            compiled.Codes(*wrong)
    for odd in ((LENGTHS, list(TABLE)), (bytearray(LENGTHS), TABLE), (LENGTHS, (1,) * 61)):
        with pytest.raises(TypeError):
            compiled.Codes(*odd)
    with pytest.raises(ValueError, match="codes"):
        compiled.Blocks(1, compiled.Codes.__new__(compiled.Codes))
    for said in ((), (1,), (1, None), ("a", compiled.Codes(LENGTHS, TABLE))):
        with pytest.raises(TypeError):
            compiled.Blocks(*said)
    with pytest.raises(TypeError, match="expected bytes"):
        decoder().decode(bytearray(b"\x82"))
    with pytest.raises(OverflowError, match="too long"):
        decoder(59).decode(b"\x82")


GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"t"), (b":path", b"/a")]


def test_a_head_like_the_last_one_is_judged_by_the_extension(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = HeadJudge()
    rest = [(b"accept", b"*/*"), (b"x-a", b"b")]
    fields = judge.judge([*GET, *rest])[2]
    slow: list[Any] = []
    monkeypatch.setattr(HeadJudge, "judge_any", lambda self, decoded: slow.append(decoded))
    again = [(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in rest]
    found = judge.judge([(b":path", b"/bcd?e"), *reversed(GET[:3]), *again])
    assert found == (b"GET", b"/bcd?e", fields, 20)
    assert found[2] is fields
    assert not slow
    for other in (
        GET, [*GET, *rest, rest[0]], [*GET, rest[0], (b"x-a", b"c")], [*GET[1:], *rest],
        [*GET[:2], (b":authority", b"u"), GET[3], *rest], [*GET[:3], (b":path", b"a"), *rest],
        [*GET[:3], (b":path", b"/ "), *rest], [*GET[:3], (b":path", b""), *rest],
        [(b":method", b"CONNECT"), *GET[1:], *rest], [(b":method", b"get"), *GET[1:], *rest],
        [*GET, GET[0], *rest], [(b":method", b""), *GET[1:], *rest], [*GET[:2], GET[3], *rest],
        [GET[0], (b":scheme", b""), *GET[2:], *rest], [], [GET[0], *rest, *GET[1:]],
    ):
        slow.clear()
        judge.judge(list(other))
        assert slow == [other]


def test_what_a_judge_does_with_what_no_decoder_makes() -> None:
    judge = HeadJudge()
    judge.judge(list(GET))
    for odd in ([None], [(b"a",)], [("a", b"b")], None, [*GET, None], [*GET, (1, 2)]):
        with pytest.raises((StreamBroken, TypeError, ValueError)):
            judge.judge(odd)  # type: ignore[arg-type]
    assert judge.judge(list(GET))[1] == b"/a"
