"""Which peers are believed, and what is an address."""

from __future__ import annotations

import pytest

from apihour_http.forwarded.proxies import DEFAULT, Proxies, node


@pytest.mark.parametrize(("listed", "believed", "strangers"), [
    (DEFAULT, ["127.0.0.1", "::1", "::ffff:127.0.0.1", None], ["127.0.0.2", "10.0.0.1"]),
    ("10.0.0.0/8, 2001:db8::/32",
     ["10.1.2.3", "::ffff:10.9.9.9", "2001:db8::7", "2001:db8::1%eth0"],
     ["11.0.0.1", "2001:db9::1", "127.0.0.1", None, "not an address", ""]),
    ("::ffff:10.0.0.0/104", ["10.1.2.3"], ["11.0.0.1", "::1"]),
    ("*", ["1.2.3.4", "::1", None], []),
    ("unix", [None], ["127.0.0.1"]),
    ("", [], ["127.0.0.1", "::1", None]),
])
def test_who_is_believed(
    listed: str, believed: list[str | None], strangers: list[str | None]
) -> None:
    proxies = Proxies(listed)
    for peer in believed:
        assert proxies.believe_peer(peer), peer
    if "*" not in listed:
        for peer in strangers:
            assert not proxies.believe_peer(peer), peer
    assert bool(proxies) == bool(listed)


@pytest.mark.parametrize("listed", ["nginx", "10.0.0.1/8", "1.2.3.4:80", "127.0.0.1 ::1"])
def test_what_is_no_address_is_named(listed: str) -> None:
    with pytest.raises(ValueError, match=f"^{listed!r}: expected an address, a network"):
        Proxies(f"::1,{listed}")


@pytest.mark.parametrize(("text", "address", "port"), [
    ("192.0.2.43", "192.0.2.43", 0), ("192.0.2.43:47011", "192.0.2.43", 47011),
    ("2001:db8:cafe::17", "2001:db8:cafe::17", 0), ("[2001:db8:cafe::17]", "2001:db8:cafe::17", 0),
    ("[2001:db8:cafe::17]:4711", "2001:db8:cafe::17", 4711), ("192.0.2.43:_x", "192.0.2.43", 0),
    ("::ffff:192.0.2.43", "192.0.2.43", 0), ("192.0.2.43:99999", "192.0.2.43", 0),
])
def test_addresses(text: str, address: str, port: int) -> None:
    found = node(text)
    assert found is not None
    assert (str(found.address), found.port) == (address, port)


@pytest.mark.parametrize("text", [
    "", "unknown", "_hidden", "_SEVKISEK", "localhost", "1.2.3", "1.2.3.4.5", "[::1", "::1]",
    "1.2.3.4:", "1.2.3.4:x", "[1.2.3.4\r\n]", "fe80::1%eth0", "1" * 99,
    "999.1.1.1", "\uff11.2.3.4",
])
def test_what_is_no_address(text: str) -> None:
    assert node(text) is None
