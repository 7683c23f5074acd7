"""dnslib: packs and unpacks; a protocol of a few lines serves it over UDP."""

import asyncio

from dnslib import QTYPE, RR, A, DNSRecord

import apihour


class DNS(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        reply = (query := DNSRecord.parse(data)).reply()
        reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("192.0.2.1"), ttl=60))
        self.transport.sendto(reply.pack(), peer)


class Container(apihour.Container):
    binds = {"dns": "udp://127.0.0.1:8053"}

    def make_servers(self):
        return {"dns": DNS}
