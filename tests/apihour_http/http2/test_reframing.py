"""An answer of HTTP/1 is taken apart, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour_http.http2.reframing import Reframing


class Parts:
    """Keeps what is told."""

    def __init__(self):
        self.heads, self.body, self.trailers, self.ended = [], b"", None, 0

    def send_head(self, status, fields, is_end):
        self.heads.append((status, fields))
        self.ended += is_end

    def send_body(self, data, is_end):
        assert not self.ended
        self.body += data
        self.ended += is_end

    def send_trailers(self, fields):
        assert not self.ended
        self.trailers = fields
        self.ended += 1


SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nX-A:  b \r\n\r\nhello"
CHUNKED = (b"HTTP/1.1 100 Continue\r\n\r\n"
           b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n"
           b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n")


def written(data, cuts, head_only=False):
    parts = Parts()
    reframing = Reframing(parts, head_only)
    for size in cuts:
        reframing.write(data[:size])
        data = data[size:]
    reframing.write(data)
    return parts, reframing


cuts = given(st.lists(st.integers(1, 15), max_size=30))


@cuts
def test_a_body_with_its_length(sizes):
    parts, reframing = written(SIZED, sizes)
    assert parts.heads == [(200, [(b"content-length", b"5"), (b"x-a", b"b")])]
    assert (parts.body, parts.ended, reframing.is_done()) == (b"hello", 1, True)


@cuts
def test_chunks(sizes):
    parts, reframing = written(CHUNKED + b"\r\n", sizes)
    assert parts.heads == [(100, []), (404, [])]
    assert (parts.body, parts.trailers, parts.ended) == (b"hello", None, 1)
    assert reframing.is_done()


@cuts
def test_chunks_and_trailers(sizes):
    parts, _ = written(CHUNKED + b"X-Sum: 5\r\nb: c\r\n\r\n", sizes)
    assert (parts.body, parts.trailers) == (b"hello", [(b"x-sum", b"5"), (b"b", b"c")])
    assert parts.ended == 1


@pytest.mark.parametrize(("data", "head_only"), [
    (SIZED[:-5], True), (b"HTTP/1.1 204 No Content\r\n\r\n", False),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
])
def test_an_answer_without_a_body(data, head_only):
    parts, reframing = written(data, [], head_only)
    assert (parts.body, parts.ended, reframing.is_done()) == (b"", 1, True)


def test_a_body_until_the_connection_ends():
    parts, reframing = written(b"HTTP/1.0 200 OK\r\n\r\nhel", [])
    reframing.write(b"lo")
    assert (parts.body, parts.ended, reframing.ends_with_connection()) == (b"hello", 0, True)
    reframing.close()
    assert parts.ended == 1
