"""The texts of options about connections, and which of them goes before which."""

from __future__ import annotations

from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.errors import AddressError, ConfigurationError
from apihour.limits.bind_options import BindOptions, parse_options
from apihour.limits.door import layered
from apihour.limits.layers import declared_options


@pytest.mark.parametrize(("given", "name", "value", "text"), [
    ({"per_address": 5}, "per_address", 5, "5"),
    ({"rate": "10"}, "rate", (10, 1.0), "10/s"),
    ({"rate": "60/m"}, "rate", (60, 60.0), "60/m"),
    ({"rate": "1/h"}, "rate", (1, 3600.0), "1/h"),
    ({"idle": "500ms"}, "idle", 0.5, "0.5"),
    ({"idle": "2h"}, "idle", 7200.0, "7200"),
    ({"idle": 90}, "idle", 90.0, "90"),
    ({"keepalive": "1m"}, "keepalive", 60, "60"),
    ({"keepalive": 0}, "keepalive", 0, "0"),
    ({"nodelay": False}, "nodelay", False, "no"),
    ({"nodelay": ""}, "nodelay", True, "yes"),
    ({"over": "wait"}, "over", "wait", "wait"),
    ({"min_rate": 1000000}, "min_rate", 1000000, "1000000"),
])
def test_a_value_is_read_and_written(
    given: dict[str, object], name: str, value: Any, text: str
) -> None:
    options = parse_options(given)
    assert getattr(options, name) == value
    assert options.texts() == {name: text} and str(options) == f"{name}={text}"
    assert parse_options(options.texts()) == options


@pytest.mark.parametrize(("given", "told"), [
    ({"per_address": 0}, "option 'per_address' of a number, 1 or more, not '0'"),
    ({"per_address": "-1"}, "not '-1'"),
    ({"rate": "0/s"}, "10, 10/s, 60/m or 100/h, not '0/s'"),
    ({"rate": "10/d"}, "not '10/d'"),
    ({"idle": "0"}, "a time from 100ms to 720h, not '0'"),
    ({"idle": "721h"}, "a time from 100ms to 720h"),
    ({"idle": "soon"}, "a time such as 90, 500ms, 10m or 2h, not 'soon'"),
    ({"keepalive": "500ms"}, "whole seconds up to 9h, 0 for none, not '500ms'"),
    ({"over": "refuse"}, "wait or close, not 'refuse'"),
    ({"nodelay": "maybe"}, "yes or no, not 'maybe'"),
    ({"idel": 3}, "one of the options limit, per_address, rate, over, idle, min_rate, keepalive, "
                  "nodelay, not 'idel'"),
])
def test_a_wrong_one_is_told(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_options(given)
    assert told in str(caught.value)


def test_a_bind_has_them_and_keeps_them() -> None:
    text = "127.0.0.1:80?limit=9&per_address=3&rate=60/m&over=wait&idle=90&nodelay=no"
    address = parse_address(text)
    assert str(address) == text and parse_address(str(address)) == address
    assert address.limit == 9
    assert address.options == BindOptions(
        per_address=3, rate=(60, 60.0), over="wait", idle=90.0, nodelay=False)
    assert parse_address("127.0.0.1:80").options is None
    assert parse_address("unix:/run/x.sock?proxy=unix&rate=5").options == BindOptions(rate=(5, 1))


@pytest.mark.parametrize(("text", "told"), [
    ("udp://127.0.0.1:53?idle=3", "option 'idle' on stream binds only"),
    ("unix:/run/x.sock?keepalive=3", "option 'keepalive' on TCP binds only"),
    ("unix:@x?per_address=3", "option 'per_address' on TCP binds, or beside proxy=NETWORKS, only"),
    ("127.0.0.1:80?rate=fast", "option 'rate' of a number of connections such as 10, 10/s"),
    ("127.0.0.1:80?idel=3", "min_rate=BYTES, keepalive=TIME or nodelay=no, not 'idel=3'"),
])
def test_a_bind_that_cannot_have_one_is_refused(text: str, told: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert told in str(caught.value) and text in str(caught.value)


class Slow:
    bind_options = {"idle": "1h", "per_address": 5}


def test_what_is_said_nearer_to_the_bind_goes_first() -> None:
    files = {"servers": {"x": {"bind_options": {"idle": 60, "nodelay": False}}}}
    declared = declared_options(Slow, files, "x")
    assert declared == BindOptions(idle=60.0, per_address=5, nodelay=False)
    assert declared_options(Slow(), {}, "x") == BindOptions(idle=3600.0, per_address=5)
    assert declared_options(object(), {"servers": None}, "x") is None
    bound = BindOptions(idle=30.0)
    assert layered(declared, 7, bound, None) == BindOptions(
        idle=30.0, per_address=5, nodelay=False, limit=7)
    assert layered(declared, 7, bound, BindOptions(limit=1, idle=5.0)) == BindOptions(
        idle=5.0, per_address=5, nodelay=False, limit=1)


@pytest.mark.parametrize(("served", "config", "told"), [
    (type("Bad", (), {"bind_options": {"idle": "x"}}), {}, ".Bad.bind_options: expected option"),
    (type("Bad", (), {"bind_options": 5}), {}, ".Bad.bind_options: 5; expected a mapping"),
    (object(), {"servers": {"x": {"bind_options": {"rat": 1}}}},
     "servers: 'x': bind_options: expected one of the options limit"),
])
def test_a_wrong_declaration_says_where_it_stands(
    served: object, config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declared_options(served, config, "x")
    assert told in str(caught.value)
