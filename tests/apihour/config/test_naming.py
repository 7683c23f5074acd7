"""Targets, and the names of daemons that follow from them."""

from __future__ import annotations

import pytest

from apihour.config.naming import daemon_name, split_target
from apihour.errors import TargetError


def test_splits_with_a_default() -> None:
    assert split_target("a.b:c") == ("a.b", "c")
    assert split_target("a") == ("a", "Container")


@pytest.mark.parametrize("target", ["", ":x", "a:", "a.py", "a/b:C", "a.py:C"])
def test_refuses_what_is_no_target(target: str) -> None:
    with pytest.raises(TargetError, match="expected module:Container"):
        split_target(target)


@pytest.mark.parametrize(("module", "name"), [
    ("hello", "hello"), ("hello.main", "hello"), ("examples.hello", "hello"),
    ("examples.sub.hello", "hello"), ("examples", "examples"),
])
def test_a_daemon_is_called_by_its_package(module: str, name: str) -> None:
    assert daemon_name(module) == name
