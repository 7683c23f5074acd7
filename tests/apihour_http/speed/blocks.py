"""Header blocks of HTTP/2, mutated, and what is made of each: by the extension, and by Python.

    python -m tests.apihour_http.speed.blocks [--blocks 1000000] [--seed 1]

decodes the same connections by both, and judges what comes of them; the first difference is shown,
and ends it with status 1.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
from typing import Any

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from apihour_http.http2.block_decoder import BlockDecoder, PlainBlockDecoder
from apihour_http.http2.fieldblocks import integer
from apihour_http.http2.frame_bytes import ConnectionBroken, StreamBroken
from apihour_http.http2.request_head import HeadJudge
from apihour_http.speed import compiled

BLOCKS = 60  # of one connection, at most
NAMES = [b":method", b":scheme", b":authority", b":path", b":path", b":status", b"cookie", b"host",
         b"te", b"x-a", b"accept", b"user-agent", b"Connection", b"connection", b"", b"a b", b"\0"]
VALUES = [b"GET", b"POST", b"CONNECT", b"get", b"http", b"https", b"t", b"a.example:80", b"/",
          b"/items/12?page=3", b"/a b", b"/\xe9", b"/#", b"*", b"", b"trailers", b"*/*", b"a=b",
          b"gzip, deflate, br", b" a", b"a\t", b"a\0", b"a\nb", b"Mozilla/5.0 (X11; Linux x86_64)"]
PLAIN = [[b"\x82\x86"], [b"\x83\x87"], [b"\x82", b"\x86"], [b"\x86", b"\x83"]]
_huffman = functools.lru_cache(4096)(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode)


def text(draw: random.Random, value: bytes) -> bytes:
    """A text, in Huffman's code or not; sometimes of a length that it has not."""
    coded = _huffman(value) if draw.randrange(2) else value
    first = 0x80 if coded is not value else 0
    size = len(coded)
    if not draw.randrange(60):
        size = draw.choice((0, 1, size + 1, 126, 127, 128, 1 << 28, 1 << 40))
    return integer(size, 7, first) + coded


def value_of(draw: random.Random) -> bytes:
    kind = draw.randrange(40)
    if kind < 37:
        return draw.choice(VALUES)
    if kind < 39:
        return draw.randbytes(draw.choice((0, 1, 2, 9, 40)))
    return draw.choice((b"x", b"\xff", b"0")) * draw.choice((100, 400, 700, 3900, 4096, 5000))


def field(draw: random.Random, last: int) -> bytes:
    """The bytes of one field, or of a size of the table; `last` is its last index."""
    kind = draw.randrange(40)
    if kind < 16:
        return integer(draw.randrange(1, last + 1), 7, 0x80)
    if kind < 17:
        size = draw.choice((0, 30, 31, 60, 200, 4000, 4095, 4096, 4096, 4096, 4097, 1 << 20))
        return integer(size, 5, 0x20)
    bits, first = draw.choice(((6, 0x40), (6, 0x40), (4, 0), (4, 0x10)))
    if kind < 30:
        return integer(draw.randrange(1, last + 1), bits, first) + text(draw, value_of(draw))
    return bytes((first,)) + text(draw, draw.choice(NAMES)) + text(draw, value_of(draw))


def request(draw: random.Random, tail: bytes) -> bytes:
    """A block such as clients send: the fields of the last one, and another path."""
    path = b"/items/%d?page=%d" % (draw.randrange(300), draw.randrange(9))
    return b"".join((b"\x04", text(draw, path), *draw.choice(PLAIN), b"\x01\x01t", tail))


def block_of(draw: random.Random, last: int, tail: bytes) -> bytes:
    """One header block; now and then it is broken."""
    if draw.randrange(2):
        block = request(draw, tail)
    else:
        block = b"".join(field(draw, last) for _ in range(draw.choice((1, 2, 3, 5, 8, 20))))
        if not draw.randrange(40):
            block += integer(last + draw.randrange(4), 7, 0x80)
    if block and not draw.randrange(50):
        at = draw.randrange(len(block))
        block = draw.choice((
            block[:at], block[:at] + draw.randbytes(1) + block[at + 1:],
            block[:at] + draw.randbytes(3) + block[at:]))
    return block


def judged(judge: Any, fields: list[Any]) -> Any:
    try:
        return judge(fields)
    except StreamBroken as error:
        return error.code, str(error)


def outcome(decoder: Any, judge: Any, block: bytes) -> Any:
    """What comes of a block; an integer ends its connection."""
    try:
        fields = decoder.decode(block)
    except ConnectionBroken as error:
        return error.code
    return list(fields), judged(judge, fields)


def connection(draw: random.Random) -> tuple[int, list[bytes], bool]:
    """How many blocks a connection had, which, and whether the last made a difference."""
    most = draw.choice((200, 4096, 65536))
    fast, plain = BlockDecoder(most), PlainBlockDecoder(most)
    judge, plain_judge = HeadJudge().judge, HeadJudge().judge_any
    said: list[bytes] = []
    tail = b""
    for _ in range(draw.randrange(1, BLOCKS)):
        last = 61 + len(plain._entries)
        if not draw.randrange(9):
            tail = b"".join(field(draw, last) for _ in range(draw.randrange(6)))
        said.append(block_of(draw, last, tail))
        one = outcome(fast, judge, said[-1])
        if one != outcome(plain, plain_judge, said[-1]):
            return len(said), said, True
        if isinstance(one, int):
            break
    return len(said), said, False


def differing(seed: int, blocks: int) -> list[bytes] | None:
    """The first connection of which something else comes; None when there is none."""
    draw = random.Random(seed)
    done = 0
    while done < blocks:
        count, said, differs = connection(draw)
        if differs:
            return said
        done += count
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    found = parser.parse_args()
    if compiled is None:
        print("the extension is not built, or left out")
        return 1
    said = differing(found.seed, found.blocks)
    if said is not None:
        print("with the extension, something else comes of", said)
        return 1
    print(f"{found.blocks} blocks, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
