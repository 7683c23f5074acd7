"""Mappings with repeated keys."""

from __future__ import annotations

from apihour_http.mapping import Form, Headers

PAIRS = [("A", "1"), ("b", "2"), ("A", "3"), ("a", "4")]


def test_a_form_tells_cases_apart_and_headers_do_not() -> None:
    form, headers = Form(PAIRS), Headers(PAIRS)
    assert form.held("A") == form.getall("A") == ["1", "3"] and form.held("B") is None
    assert headers.held("A") == headers.held("a") == headers.getall("A") == ["1", "3", "4"]
    assert headers.held("c") is None and headers["B"] == "2"
    assert list(form) == ["A", "b", "A", "a"] and len(headers) == 4
