"""What a protocol says of its connection, taken with caution."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from apihour.ops.activity import Activity, activity_of


def told(answer: Any) -> Activity:
    protocol = SimpleNamespace(activity=answer)
    return activity_of(SimpleNamespace(get_protocol=lambda: protocol))  # type: ignore[arg-type]


def test_a_protocol_that_says_nothing_is_not_asked() -> None:
    silent = SimpleNamespace(get_protocol=lambda: SimpleNamespace(activity=None))
    assert activity_of(None) == activity_of(silent) == Activity()  # type: ignore[arg-type]


def test_what_it_says_is_cut_and_dated() -> None:
    now = time.monotonic()
    found = told(lambda: {"state": "s" * 999, "path": "/" * 9999, "since": now - 5})
    assert len(found.state) < 100 and len(found.path) < 300 and found.route == ""
    assert told(lambda: {"client": "1.2.3.4"}).client == "1.2.3.4"
    assert len(told(lambda: {"client": "1" * 999}).client) < 100
    assert found.age is not None and 5 <= found.age < 6
    assert told(dict) == Activity()


def test_what_it_raises_is_shown_for_that_connection_only() -> None:
    found = told(lambda: 1 / 0)
    assert found.state.startswith("unknown: ZeroDivisionError")
    assert told(lambda: {"since": "soon"}).state.startswith("unknown: TypeError")
