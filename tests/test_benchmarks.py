"""The load of the benchmark of HTTP: requests that differ, and goals that can be missed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its module of that name; last in the path, as ``http.py`` there must not be ours."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module


def test_no_request_of_a_load_repeats_but_in_the_case_that_says_so(load: Any) -> None:
    requests = load("http_requests")
    for kind in requests.KINDS:
        sent = [each.raw for each in requests.distinct(kind, 500)]
        assert len(set(sent)) == len(sent) == (1 if kind == "same" else 500), kind
        assert sent == [each.raw for each in requests.distinct(kind, 500)], kind


def test_a_browser_sends_ten_headers_and_its_cookie(load: Any) -> None:
    requests = load("http_requests")
    first, second = (each.raw.split(b"\r\n") for each in requests.distinct("browser", 2))
    assert len(first[1:-2]) == 11
    assert [a.partition(b":")[0] for a, b in zip(first, second, strict=True) if a != b] == [
        b"Cookie"]


def test_wrk_sends_the_very_bytes(load: Any) -> None:
    requests, wrk = load("http_requests"), load("http_load")
    for kind in requests.KINDS:
        for sent in requests.distinct(kind, 20):
            quoted = wrk.quoted(sent)
            assert "\\u" not in quoted  # the escapes that are left mean the same in Lua
            assert quoted.encode("ascii")[1:-1].decode("unicode_escape").encode() == sent.raw


def test_a_goal_is_missed_below_its_ratio_and_open_without_a_figure(load: Any) -> None:
    goals = load("http_goals").goals
    assert "FAIL" not in goals(lambda case, peer, ours: 5.0)
    assert "pass" not in goals(lambda case, peer, ours: 0.1)
    nothing = goals(lambda case, peer, ours: None)
    assert "pass" not in nothing
    assert "FAIL" not in nothing
