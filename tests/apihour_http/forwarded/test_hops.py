"""Headers of hops, read from the right."""

from __future__ import annotations

import time

import pytest

from apihour_http.forwarded.hops import MOST, elements, entries


@pytest.mark.parametrize(("lines", "found"), [
    ([b"1.1.1.1"], ["1.1.1.1"]),
    ([b"1.1.1.1, 2.2.2.2,3.3.3.3"], ["3.3.3.3", "2.2.2.2", "1.1.1.1"]),
    ([b"1.1.1.1", b"2.2.2.2, \t3.3.3.3 "], ["3.3.3.3", "2.2.2.2", "1.1.1.1"]),
    ([b""], []), ([b", ,, "], []), ([b"\xff\xfe, a"], ["a", "\xff\xfe"]),
])
def test_entries(lines: list[bytes], found: list[str]) -> None:
    assert entries(lines) == found


@pytest.mark.parametrize(("lines", "found"), [
    ([b"for=192.0.2.43"], [{"for": "192.0.2.43"}]),
    ([b'For="[2001:db8:cafe::17]:4711"'], [{"for": "[2001:db8:cafe::17]:4711"}]),
    ([b"for=192.0.2.60;proto=http; by=203.0.113.43"],
     [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}]),
    ([b"for=1.1.1.1, for=2.2.2.2;host=a", b'for="3.3.3.3"'],
     [{"for": "3.3.3.3"}, {"for": "2.2.2.2", "host": "a"}, {"for": "1.1.1.1"}]),
    ([b'for="a,b;c", for=b'], [{"for": "b"}, {"for": "a,b;c"}]),
    ([b"for=1.1.1.1:80;"], [{"for": "1.1.1.1:80"}]),
    # What stands before is the client's, and may be anything.
    ([b'for="open, for=2.2.2.2'], [{"for": "2.2.2.2"}]),
    ([b'for="a\\"b", for=2.2.2.2'], [{"for": "2.2.2.2"}]),
    ([b"for=1;for=2, for=3"], [{"for": "3"}]),
    ([b"nonsense, for=3"], [{"for": "3"}]),
    ([b"for=3, nonsense"], []), ([b'for=3, for="x'], []), ([b"\x80\xff"], []),
    ([b""], []), ([b" , ;, "], [{}]),
])
def test_elements(lines: list[bytes], found: list[dict[str, str]]) -> None:
    assert list(elements(lines)) == found


def test_no_more_than_so_many_are_read_and_long_ones_cost_little() -> None:
    assert len(entries([b"1.1.1.1," * 5000])) <= MOST
    assert len(list(elements([b"for=a," * 5000]))) == MOST
    began = time.process_time()
    for evil in (b'"' * 65536, b"a" * 65536, b"for=" * 16000, b'="",' * 16000, b"," * 65536,
                 b"; \t" * 20000, b"a=b \t" * 13000):
        list(elements([evil]))
        entries([evil])
    assert time.process_time() - began < 3  # 0.1 s; what is not linear takes minutes
