"""Servers to be an upstream, a Proxy before them, and a DNS server, all on the test's loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import aiodns
from apihour_proxy import Proxy
from dnslib import QTYPE, RCODE, RR, SRV, A, DNSRecord

PATIENCE = 30.0


async def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        await asyncio.sleep(0.005)


class Upstream:
    """Says its name to each client first, where it has one, and then what it gets."""

    def __init__(self, name=b"", host="127.0.0.1"):
        self.name, self.host = name, host
        self.open = 0
        self.port = 0
        self.got = b""

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, self.host, self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self.server.close()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    async def serve(self, reader, writer):
        self.open += 1
        try:
            writer.write(self.name)
            await self.talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()

    async def talk(self, reader, writer):
        while data := await reader.read(65536):
            self.got = (self.got + data)[-1000:]
            writer.write(data)
            await writer.drain()


class Serving(Upstream):
    """One whose conversation is the function given."""

    def __init__(self, talk, host="127.0.0.1"):
        super().__init__(host=host)
        self.talk = talk


@contextlib.asynccontextmanager
async def proxied(upstreams, **options):
    """A started Proxy, and the address where it listens."""
    proxy = Proxy(upstreams, **options)
    await proxy.start()
    listener = await asyncio.get_running_loop().create_server(proxy.stream, "127.0.0.1", 0)
    try:
        yield proxy, listener.sockets[0].getsockname()
    finally:
        listener.close()
        await proxy.stop()


def dead_port():
    """A port on which nobody listens, and nobody will: its socket is bound, and kept."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


class DNS(asyncio.DatagramProtocol):
    """Answers from `zone`: names to addresses, or to (priority, weight, port, host); for `ttl`."""

    def __init__(self, zone, ttl=1):
        self.zone, self.ttl = zone, ttl
        self.asked = []
        self.silent = False

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0))
        port = self.transport.get_extra_info("sockname")[1]
        self.resolver = aiodns.DNSResolver(
            nameservers=[f"127.0.0.1:{port}"], timeout=2, tries=2, lookups="b")
        return self

    async def __aexit__(self, *error):
        await self.resolver.close()
        self.transport.close()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        question = DNSRecord.parse(data)
        name, kind = str(question.q.qname).rstrip("."), QTYPE[question.q.qtype]
        self.asked.append((name, kind))
        if self.silent:
            return
        answer = question.reply()
        if name not in self.zone:
            answer.header.rcode = RCODE.NXDOMAIN
        for value in self.zone.get(name, ()):
            if kind == "A" and isinstance(value, str):
                answer.add_answer(RR(name, QTYPE.A, ttl=self.ttl, rdata=A(value)))
            elif kind == "SRV" and isinstance(value, tuple):
                answer.add_answer(RR(name, QTYPE.SRV, ttl=self.ttl, rdata=SRV(*value)))
        self.transport.sendto(answer.pack(), peer)
