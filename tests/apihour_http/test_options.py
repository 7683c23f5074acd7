"""What an HTTP server may be told, and what is refused before the first request."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from apihour_http.options import Options


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("max_body", "x", "a whole number"),
    ("max_body", 1.5, "a whole number"),
    ("max_body", True, "a whole number"),
    ("max_body", None, "a whole number"),
    ("max_body", -1, "no negative number"),
    ("header_timeout", "10", "a number"),
    ("header_timeout", False, "a number"),
    ("header_timeout", -0.5, "no negative number"),
    ("header_timeout", float("nan"), "no negative number"),
    ("keepalive", "75", "a number"),
    ("threads", 0, "at least 1"),
    ("budget", 0, "at least 1"),
    ("cancel_on_disconnect", "no", "true or false"),
    ("openapi", 1, "true or false"),
    ("title", 5, "a text"),
    ("dumps", "orjson", "a callable"),
    ("loads", None, "a callable"),
    ("access_log", "nope", "one of off, common, combined, json"),
    ("parser", [], "one of auto, httptools, aiohttp"),
])
def test_a_bad_value_names_option_value_and_expectation(
    name: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=r"^option ") as caught:
        Options().updated({name: value})
    assert str(caught.value) == f"option {name}={value!r}: expected {expected}"


@pytest.mark.parametrize("changes", [
    {"keepalive": None}, {"keepalive": 5}, {"openapi": None}, {"openapi": False},
    {"body_rate": 0}, {"thread_backlog": 0}, {"threads": 1}, {"dumps": repr, "loads": eval},
])
def test_values_that_fit_are_taken(changes: dict[str, Any]) -> None:
    taken = dataclasses.asdict(Options().updated(changes))
    assert {name: taken[name] for name in changes} == changes


def test_an_unknown_option_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"option 'max_bodi': expected one of .*max_body"):
        Options().updated({"max_bodi": 1})
