"""A header is judged by what it is, whether its name was seen before or not."""

from __future__ import annotations

from typing import Any

import pytest

from apihour_http import Response, response
from apihour_http.response import safe_header

NAME = "X-Seen"


class Odd(str):
    """A text that says of itself what is not so."""

    def isprintable(self) -> bool:
        return True


@pytest.mark.parametrize("value", ["a\r\nb: c", "\0", "\x7f", Odd("a\nb"), b"bytes", 1, None])
def test_the_value_of_a_name_that_was_seen_is_judged(value: Any) -> None:
    for fair in ("one", "ä", "", "a\tb", "\x80", "“"):
        assert safe_header(NAME, fair) == fair
    with pytest.raises(ValueError, match=NAME):
        Response(200, {NAME: value})
    with pytest.raises(ValueError, match=NAME):
        safe_header(NAME, value)


@pytest.mark.parametrize("name", ["Connection", "content-length", "X y", "", "é", Odd("a\n"), 1])
def test_a_name_that_may_not_be_sent_never_is(name: Any) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="header"):
            safe_header(name, "1")


def test_names_seen_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_SEEN", set())
    for number in range(1000):
        assert safe_header(f"X-{number}", "1") == "1"
    assert len(response._SEEN) == response._MANY
