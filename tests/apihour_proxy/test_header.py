"""The header that an upstream is sent, read back by the stage that reads them."""

import asyncio
import types
from ipaddress import ip_address

import pytest
from apihour_proxy.header import local_header, proxy_header

from apihour.proxied.proxy_header import ProxyFacts, ProxyHeader
from tests.apihour_proxy.support import Upstream, proxied, until

IPV4 = ("192.0.2.1", 40000), ("198.51.100.2", 443)
IPV6 = ("2001:db8::1", 40000, 0, 0), ("2001:db8::2", 443, 0, 0)


def read(data):
    header = ProxyHeader()
    assert header.feed(data + b"behind") == len(data)
    return header.facts


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("source", "destination"), [IPV4, IPV6])
def test_addresses(version, source, destination):
    facts = read(proxy_header(version, source, destination))
    assert (facts.source, facts.destination) == (source, destination)


@pytest.mark.parametrize("version", [1, 2])
def test_what_has_no_addresses_is_unknown(version):
    assert read(proxy_header(version, "", "/run/x.sock")) == ProxyFacts()
    assert read(local_header(version)) == ProxyFacts()


@pytest.mark.parametrize("version", [1, 2])
def test_mapped_addresses_and_mixed_ones(version):
    mapped = ("::ffff:192.0.2.1", 1, 0, 0)
    assert read(proxy_header(version, mapped, ("192.0.2.2", 2))).source == ("192.0.2.1", 1)
    facts = read(proxy_header(version, IPV6[0], IPV4[1]))
    assert facts.source == IPV6[0]
    assert ip_address(facts.destination[0]) == ip_address("::ffff:198.51.100.2")


def test_tls_that_ended_here_and_tls_that_a_proxy_told_of():
    tls = types.SimpleNamespace(version="TLSv1.3", peer_certificate={
        "subject": ((("countryName", "XX"),), (("commonName", "ann"),))})
    conn = types.SimpleNamespace(tls=tls, alpn="h2", proxied=None)
    facts = read(proxy_header(2, *IPV4, conn))
    assert (facts.tls, facts.common_name, facts.alpn) == ("TLSv1.3", "ann", "h2")
    tls.peer_certificate = None
    assert read(proxy_header(2, *IPV4, conn)).common_name == ""
    told = ProxyFacts(alpn="http/1.1", server_name="a.example", tls="TLSv1.2", common_name="bob")
    facts = read(proxy_header(2, *IPV4, types.SimpleNamespace(tls=None, alpn=None, proxied=told)))
    assert (facts.server_name, facts.tls, facts.common_name) == ("a.example", "TLSv1.2", "bob")
    assert proxy_header(1, *IPV4, conn) == (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n")


@pytest.mark.parametrize("version", [1, 2])
async def test_it_comes_first_and_checks_say_that_they_are_ours(version):
    seen = []

    class Noting(Upstream):
        async def talk(self, reader, writer):
            data = b""
            while more := await reader.read(100):
                data += more
            seen.append(data)

    async with Noting() as upstream, proxied(
            upstream.address, proxy_protocol=version, check=0.05) as (_, address):
        _, writer = await asyncio.open_connection(*address)
        name = writer.get_extra_info("sockname")
        writer.write(b"hello")
        writer.write_eof()
        await until(lambda: any(b"hello" in data for data in seen), "the client's bytes")
        await until(lambda: local_header(version) in seen, "a check")
        (data,) = (data for data in seen if b"hello" in data)
        header = ProxyHeader()
        assert data[header.feed(data):] == b"hello"
        assert (header.facts.source, header.facts.destination) == (name, address)
        writer.close()
