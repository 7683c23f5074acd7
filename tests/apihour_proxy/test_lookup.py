"""Upstreams by DNS: several addresses, TTLs, changes, SRV records, and when nobody answers."""

import asyncio
import logging

import pytest
from apihour_proxy.lookup import Found, Lookup, LookupFailed, parse_target
from apihour_proxy.upstreams import Upstreams

from tests.apihour_proxy.support import DNS, PATIENCE, Upstream, proxied, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("apihour_proxy.looking._AGAIN", 0.1)


async def found(proxy, *addresses):
    """Return when these are its upstreams: its first question may fail, and is asked again."""
    await until(lambda: {*proxy.statistics()["upstream_up"]} == {*addresses}, "all addresses")


async def names(address, count):
    """Who answers `count` connections, all open at once."""
    ends = [await asyncio.open_connection(*address) for _ in range(count)]
    answers = [await asyncio.wait_for(reader.readexactly(1), PATIENCE) for reader, _ in ends]
    for _, writer in ends:
        writer.close()
    return answers


async def test_all_addresses_of_a_name_are_upstreams_and_changes_are_followed(caplog):
    caplog.set_level(logging.INFO)
    async with Upstream(b"a", "127.0.0.1") as one:
        other = Upstream(b"b", "127.0.0.2")
        other.port = one.port
        third = Upstream(b"c", "127.0.0.3")
        third.port = one.port
        zone = {"db.example": ["127.0.0.1", "127.0.0.2"]}
        async with other, third, DNS(zone, ttl=1) as dns, proxied(
                f"db.example:{one.port}", resolver=dns.resolver) as (proxy, address):
            await found(proxy, f"127.0.0.1:{one.port}", f"127.0.0.2:{one.port}")
            assert sorted(await names(address, 4)) == [b"a", b"a", b"b", b"b"]
            reader, writer = await asyncio.open_connection(*address)
            held = await reader.readexactly(1)
            zone["db.example"] = ["127.0.0.3"]
            await until(lambda: f"127.0.0.3:{one.port}" in proxy.statistics()["upstream_up"],
                        "the new address, within its TTL")
            assert await names(address, 3) == [b"c"] * 3
            writer.write(held)  # who has a connection to one that is named no more keeps it
            assert await reader.readexactly(1) == held
            assert len(proxy.statistics()["upstream_up"]) == 2
            writer.close()
            assert any(f"is now 127.0.0.3:{one.port}" in line for line in caplog.messages)


async def test_a_name_is_not_asked_for_before_its_ttl_has_passed():
    async with Upstream(b"a") as one, DNS({"db.example": ["127.0.0.1"]}, ttl=600) as dns, proxied(
            f"db.example:{one.port}", resolver=dns.resolver, check=0.05) as (_, address):
        asked = len(dns.asked)
        await names(address, 3)
        await asyncio.sleep(1.3)
        assert len(dns.asked) == asked


async def test_the_order_of_an_answer_is_no_change(caplog):
    caplog.set_level(logging.INFO)
    zone = {"db.example": ["127.0.0.1", "127.0.0.2"]}
    async with DNS(zone, ttl=0) as dns, proxied("db.example:1", resolver=dns.resolver, check=3600):
        asked = len(dns.asked)
        zone["db.example"] = ["127.0.0.2", "127.0.0.1"]
        await until(lambda: len(dns.asked) > asked + 2, "it to be asked again")
    assert not any("is now" in line for line in caplog.messages)


async def test_services_by_priority_and_weight():
    async with Upstream(b"a") as one, Upstream(b"b") as other, Upstream(b"c") as spare:
        zone = {"_db._tcp.example": [(1, 3, one.port, "h.example"), (1, 1, other.port, "h.example"),
                                     (2, 1, spare.port, "h.example")],
                "h.example": ["127.0.0.1"]}
        async with DNS(zone) as dns, proxied(
                "srv:_db._tcp.example", resolver=dns.resolver, fails=1, check=3600,
        ) as (proxy, address):
            await found(proxy, one.address, other.address, spare.address)
            answers = await names(address, 8)
            assert (answers.count(b"a"), answers.count(b"b")) == (6, 2)
            one.server.close()
            other.server.close()
            assert await names(address, 3) == [b"c"] * 3


async def test_when_nobody_answers_what_was_known_stays(caplog):
    async with Upstream(b"a") as one:
        zone = {"db.example": ["127.0.0.1"]}
        async with DNS(zone, ttl=1) as dns, proxied(
                f"db.example:{one.port}", resolver=dns.resolver) as (_, address):
            asked = len(dns.asked)
            zone.clear()
            await until(lambda: len(dns.asked) > asked + 2, "it to be asked again")
            assert await names(address, 2) == [b"a"] * 2
    assert sum("not found" in line for line in caplog.messages) == 1


async def test_a_name_that_is_not_there_yet_is_waited_for(caplog):
    async with Upstream(b"a") as one:
        zone = {}
        async with DNS(zone) as dns, proxied(
                f"db.example:{one.port}", resolver=dns.resolver, retries=100) as (proxy, address):
            assert any("upstream db.example:" in line and "not found" in line
                       for line in caplog.messages)
            assert proxy.statistics()["upstream_up"] == {f"db.example:{one.port}": 0}
            waiting = asyncio.ensure_future(names(address, 1))
            await asyncio.sleep(0.05)
            zone["db.example"] = ["127.0.0.1"]
            assert await asyncio.wait_for(waiting, PATIENCE) == [b"a"]
            assert proxy.statistics()["upstream_up"] == {one.address: 1}


@pytest.mark.parametrize("target, record", [
    ("db.example:80", "127.0.0.1"), ("srv:_db._tcp.example", (0, 0, 80, "127.0.0.1"))])
async def test_a_name_without_addresses_is_asked_for_again(target, record):
    """Its answer names no time (dnsmasq's has no SOA): c-ares would keep it for an hour."""
    target = parse_target(target)
    zone = {target.name: []}
    async with DNS(zone) as dns:
        lookup = Lookup(dns.resolver)
        for _ in range(2):
            with pytest.raises(LookupFailed, match="no data"):
                await lookup.find(target)
        zone[target.name] = [record]
        servers = dns.resolver.nameservers

        async def is_found():
            try:
                return [one.name for one in (await lookup.find(target))[0]] == ["127.0.0.1:80"]
            except LookupFailed:
                return False

        for _ in range(int(PATIENCE / 0.05)):
            if await is_found():
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail(f"{target.text} is still not found")
        assert dns.resolver.nameservers == servers


async def test_services_that_are_none():
    zone = {"_no._tcp.example": [(0, 0, 0, ".")], "_x._tcp.example": [(0, 0, 1, "gone.example")]}
    async with DNS(zone) as dns:
        lookup = Lookup(dns.resolver)
        for name, said in (("_no._tcp.example", "there is no such service"),
                           ("_x._tcp.example", "gone.example"), ("_y._tcp.example", "_y._tcp")):
            with pytest.raises(LookupFailed, match=said):
                await lookup.find(parse_target(name))


async def test_the_hosts_file_and_a_resolver_of_ones_own():
    lookup = Lookup()
    found, ttl = await lookup.find(parse_target("localhost:80"))
    assert "127.0.0.1:80" in [one.name for one in found] and ttl >= 1
    await lookup.close()


def test_targets():
    for text, kind, name, port in (
        ("a.example:1", "host", "a.example", 1), ("[::1]:65535", "host", "::1", 65535),
        ("unix:@x", "unix", "\0x", 0), ("srv:_a._tcp.b", "srv", "_a._tcp.b", 0),
    ):
        target = parse_target(text)
        assert (target.kind, target.name, target.port) == (kind, name, port)


def test_those_that_are_up_come_first_then_the_lowest_priority():
    upstreams = Upstreams(fails=1)
    upstreams.update([Found(2, ("h", port), port // 10) for port in (10, 11, 20)])
    first, second, spare = upstreams
    assert upstreams.choose() in (first, second)
    assert upstreams.choose([first, second]) is spare
    upstreams.failed(first, "x")
    upstreams.failed(second, "x")
    assert upstreams.choose() is spare
    upstreams.failed(spare, "x")
    assert upstreams.choose() in (first, second)
    upstreams.succeeded(second)
    assert upstreams.choose() is second
    assert upstreams.choose([first, second, spare]) is None


def test_equals_take_turns_and_a_new_one_only_its_own():
    upstreams = Upstreams(fails=1)
    found = [Found(2, ("h", port)) for port in (1, 2)]
    upstreams.update(found)
    chosen = [upstreams.choose().name for _ in range(6)]
    assert sorted(chosen[:2]) == ["h:1", "h:2"] and chosen == chosen[:2] * 3
    upstreams.update([*found, Found(2, ("h", 3))])
    chosen = [upstreams.choose().name for _ in range(6)]
    assert chosen[0] == "h:3" and chosen == chosen[:3] * 2 and len(set(chosen)) == 3
