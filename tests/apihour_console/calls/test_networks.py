"""Networks as operators type them."""

from __future__ import annotations

import pytest

from apihour_console.calls.networks import why_unclear


@pytest.mark.parametrize(("text", "meant"), [
    ("10.1.2.3/8", "10.0.0.0/8 for all of that network, or 10.1.2.3"),
    ("2001:db8::5/64", "2001:db8::/64 for all of that network, or 2001:db8::5"),
    ("::ffff:10.1.2.3/104", "10.0.0.0/8 for all of that network, or 10.1.2.3"),
])
def test_a_network_with_bits_of_a_host_may_be_meant_as_either(text: str, meant: str) -> None:
    assert why_unclear(text) == f"{text!r}: bits of a host are set in it; expected {meant}"


@pytest.mark.parametrize("text", ["10.0.0.7", "10.0.0.7:80", "10.0.0.0/8", "[::1]:80", "unix",
                                  "10.0.0.7/32", "::/0", "", "/run/x.sock"])
def test_what_is_clear(text: str) -> None:
    assert why_unclear(text) == ""
