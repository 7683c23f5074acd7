"""What ``--filter`` means, condition by condition."""

from __future__ import annotations

from typing import Any

import pytest

from apihour.errors import UsageError
from apihour.ops.model import Column
from apihour_console.calls.filters import parse_filter

COLUMNS = (Column("peer", "address"), Column("age", "seconds"), Column("size", "bytes"),
           Column("own", "bool"), Column("state", "str"), Column("value", "any"))
ROW: dict[str, Any] = {"peer": "127.0.0.77:4711", "age": 90.0, "size": 2048, "own": True,
                       "state": "Request", "value": 12}


@pytest.mark.parametrize("text", [
    "peer=127.0.0.77", "peer=127.0.0.77:4711", "peer=127.0.0.0/8", "peer=127.*", "peer!=127.0.0.7",
    "peer~0.0.77:4", "peer=*:4711", "age=90", "age=90s", "age>1m", "age<=1.5m", "size=2k",
    "size>=2048", "own=yes", "own=TRUE", "own!=no", "state=request", "state=re?uest", "state=*",
    "state!=req", "~quest", "~0.0.77", "value=12", "value>9", "value!=13", "state>r", "state<s",
    "state = request",
])
def test_fits(text: str) -> None:
    assert parse_filter(text, COLUMNS).matches(ROW)


@pytest.mark.parametrize("text", [
    "peer=127.0.0.7", "peer=127.0.0.77:471", "peer=10.0.0.0/8", "peer=0.0.77", "peer!=127.0.0.0/8",
    "peer=127.0.0.7?7", "age=91", "size=2047", "own=no", "state=req", "state=req*t?", "~nothing",
    "state~quiet", "value=1", "value=x", "state=", "state=[r]equest", "state=.*",
])
def test_does_not_fit(text: str) -> None:
    assert not parse_filter(text, COLUMNS).matches(ROW)


@pytest.mark.parametrize("name", [column.name for column in COLUMNS])
def test_a_row_without_a_value_is_asked_for_by_none(name: str) -> None:
    for row in (ROW, {**ROW, name: None}):
        assert parse_filter(f"{name}=", COLUMNS).matches(row) is (row[name] is None)
        assert parse_filter(f"{name}!=", COLUMNS).matches(row) is (row[name] is not None)


@pytest.mark.parametrize(("text", "fits"), [
    ("peer=::1", True), ("peer=[::1]", True), ("peer=[::1]:80", True), ("peer=::/64", True),
    ("peer=0:0:0:0:0:0:0:1", True), ("peer=::2", False), ("peer=[::1]:8", False),
    ("peer=127.0.0.1", False),
])
def test_ipv6(text: str, fits: bool) -> None:
    assert parse_filter(text, COLUMNS).matches({"peer": "[::1]:80"}) is fits


def test_a_mapped_ipv4_address_is_one_of_ipv4() -> None:
    assert parse_filter("peer=10.1.2.3", COLUMNS).matches({"peer": "[::ffff:10.1.2.3]:80"})


@pytest.mark.parametrize(("text", "problem"), [
    ("foo", "'foo'; expected COLUMN=VALUE"),
    ("foo=1", "no column 'foo'; expected one of peer, age"),
    ("", "expected COLUMN=VALUE"), ("~", "expected COLUMN=VALUE"), ("=1", "expected COLUMN=VALUE"),
    ("age=soon", "expected a number for age"), ("own=maybe", "expected yes or no for own"),
    ("x" * 5000, "expected COLUMN=VALUE"), ("foo~x", "no column 'foo'"),
])
def test_refused_with_the_columns_there_are(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_filter(text, COLUMNS)
    line = str(raised.value)
    assert problem in line and "\n" not in line and len(line) < 400
    assert "state" in line or "expected a number" in line or "expected yes" in line


def test_a_network_with_bits_of_a_host_is_refused_before_anything_is_kicked() -> None:
    for text in ("peer=10.1.2.3/8", "peer!=10.1.2.3/8"):
        with pytest.raises(UsageError) as raised:
            parse_filter(text, COLUMNS)
        assert str(raised.value) == (
            "option --filter: '10.1.2.3/8': bits of a host are set in it; expected 10.0.0.0/8 for "
            "all of that network, or 10.1.2.3")
    parse_filter("peer~10.1.2.3/8", COLUMNS)  # of part of a text nothing is derived


def test_columns_that_are_not_declared_take_any_name() -> None:
    assert parse_filter("any=1", ()).matches({"any": 1})
    assert parse_filter("any=1", ()).matches({"any": "1"})
    assert not parse_filter("any=1", ()).matches({})
    for text in ("any>1", "any<1", "any~1"):
        assert not parse_filter(text, ()).matches({"any": None} if "~" not in text else {})
