"""Names on one side, addresses on the other."""

from __future__ import annotations

import pytest

from apihour.bind.binds import DEFAULT, class_binds, match_servers, resolve_binds
from apihour.errors import ConfigurationError


def texts(declared: dict[str, list[str]], *levels: list[str]) -> dict[str, list[str]]:
    return {
        name: [str(address) for address in addresses]
        for name, addresses in resolve_binds(declared, levels).items()
    }


class Application:
    pass


TWO = {"http": ["127.0.0.1:80"], "echo": ["127.0.0.1:90"]}


def test_class_binds_takes_texts_and_lists() -> None:
    assert class_binds(Application, {"http": ":80", "echo": [":1", ":2"]}) == {
        "http": [":80"], "echo": [":1", ":2"]}


@pytest.mark.parametrize(("declared", "message"), [
    ([":80"], "expected a mapping"),
    ({"http": "eighty"}, "'http': bind address 'eighty'"),
    ({"http": []}, "'http' has no address"),
    ({"http": None}, "'http': bind address None: expected"),
    ({"http": 80}, "'http': bind address 80: expected"),
    ({"http": [80]}, "'http': bind address 80: expected"),
    ({1: ":80"}, "1: expected a name"),
    ({"a b": ":80"}, "'a b': expected a name"),
])
def test_class_binds_names_class_and_fault(declared: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        class_binds(Application, declared)
    assert str(caught.value).startswith(f"{__name__}.Application.binds: ")
    assert message in str(caught.value)


def test_nothing_declared_is_the_default() -> None:
    assert texts({}) == {"1": [DEFAULT]}


def test_an_override_goes_by_name_and_later_levels_win() -> None:
    assert texts(TWO, ["http=:81"], ["http=:82"]) == {
        "http": ["0.0.0.0:82"], "echo": ["127.0.0.1:90"]}


def test_a_level_replaces_all_addresses_of_a_name() -> None:
    assert texts({"http": [":1", ":2"]}, ["http=:3", "http=:4"]) == {
        "http": ["0.0.0.0:3", "0.0.0.0:4"]}


def test_a_nameless_override_rebinds_the_only_server() -> None:
    assert texts({"http": [":1"]}, [":2"]) == {"http": ["0.0.0.0:2"]}


def test_a_nameless_override_of_several_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"bind ':2': .*NAME=:2.*http, echo"):
        texts(TWO, [":2"])


def test_nameless_binds_go_by_position() -> None:
    assert texts({}, [":1", ":2"]) == {"1": ["0.0.0.0:1"], "2": ["0.0.0.0:2"]}
    assert texts({}, [":1", ":2"], [":3"]) == {"1": ["0.0.0.0:3"]}


def test_one_address_twice_is_refused_with_both_names() -> None:
    with pytest.raises(ConfigurationError, match=r"'http' and 'echo' are both 127.0.0.1:80"):
        texts(TWO, ["echo=127.0.0.1:80"])
    with pytest.raises(ConfigurationError, match=r"^bind 'echo' is twice 127.0.0.1:81; expected"):
        texts(TWO, ["echo=127.0.0.1:81", "echo=127.0.0.1:81"])


def test_port_0_is_no_double() -> None:
    assert texts({"a": ["127.0.0.1:0"], "b": ["127.0.0.1:0"]}) == {
        "a": ["127.0.0.1:0"], "b": ["127.0.0.1:0"]}


def test_tcp_and_udp_on_one_port_are_two_places() -> None:
    assert len(texts({"dns": ["udp://127.0.0.1:53"], "dns-tcp": ["127.0.0.1:53"]})) == 2


def test_servers_match_by_name() -> None:
    assert match_servers({"echo": 1, "http": 2}, ["http", "echo"]) == [
        ("echo", 1, ["echo"]), ("http", 2, ["http"])]


def test_a_list_matches_by_order() -> None:
    assert match_servers(["a", "b"], ["1", "2"]) == [("1", "a", ["1"]), ("2", "b", ["2"])]
    assert match_servers(("a", "b"), ["http", "echo"]) == [
        ("http", "a", ["http"]), ("echo", "b", ["echo"])]


def test_a_single_server_takes_every_nameless_bind() -> None:
    assert match_servers(["a"], ["1", "2"]) == [("1", "a", ["1", "2"])]
    assert match_servers({"http": "a"}, ["1", "2"]) == [("http", "a", ["1", "2"])]


def test_named_servers_take_nameless_binds_in_order() -> None:
    assert match_servers({"x": "a", "y": "b"}, ["1", "2"]) == [("x", "a", ["1"]), ("y", "b", ["2"])]


@pytest.mark.parametrize(("made", "binds", "parts"), [
    ({"http": 1, "ftp": 2}, ["http"], ["server 'ftp' has no bind", "http, ftp"]),
    ({"http": 1}, ["http", "echo"], ["bind 'echo' has no server"]),
    ({"web": 1}, ["http"], ["server 'web' has no bind", "bind 'http' has no server"]),
    ({}, ["1"], ["bind '1' has no server", "returned nothing"]),
    ({"a": 1, "b": 2}, ["1", "2", "3"], ["has no bind", "has no server"]),
    ([1, 2], ["a", "b", "c"], ["a list of 2 for 3 binds", "a, b, c"]),
    ([1, 2], ["a"], ["a list of 2 for 1 bind (a); expected one server per bind"]),
    (None, ["a"], ["returned None; expected a dict"]),
    ("http", ["a"], ["returned 'http'"]),
])
def test_a_mismatch_names_both_sides(made: object, binds: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        match_servers(made, binds)
    for part in parts:
        assert part in str(caught.value)
