"""Where upstreams are: how they are named, and the addresses found for a name by DNS.

Rules:

- Names are looked up by aiodns, in the hosts file too; what is written as an address never is.
- An answer is good for its TTL, of several records for the shortest; at least a second.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

from apihour_proxy.aiodns_private import NO_DATA, forget_answers

__all__ = ["Found", "Lookup", "LookupFailed", "Target", "parse_target"]

_EXPECTED = "expected HOST:PORT, srv:_SERVICE._tcp.DOMAIN or unix:PATH"
_MOST = 256  # addresses that are taken of one answer, and hosts of one SRV record
_SHORTEST = 1.0  # seconds that an answer is good for, at least
_FOR_EVER = float("inf")


class LookupFailed(Exception):
    """A name was not found, or nobody answered; its text says which and why."""


@dataclass(frozen=True)
class Target:
    """Who is meant: `name` and `port` of a host, the name of an SRV record, a path."""

    text: str
    kind: str
    name: str
    port: int = 0

    @property
    def is_address(self) -> bool:
        """Whether nobody need be asked where that is."""
        return self.kind == "unix" or (self.kind == "host" and _version(self.name) > 0)


@dataclass(frozen=True)
class Found:
    """One address; `priority` and `weight` as in an SRV record (RFC 2782)."""

    family: int
    address: Any
    priority: int = 0
    weight: int = 1

    @property
    def name(self) -> str:
        """For people: ``10.0.0.1:80``, ``[::1]:80``, ``unix:/run/x.sock``."""
        if self.family == socket.AF_UNIX:
            return f"unix:{self.address}".replace("\0", "@", 1)
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


Resolved = tuple[list[Found], float]
"""Addresses, and for how many seconds they are good."""


def parse_target(text: Any) -> Target:
    """What `text` names. Raises TypeError or ValueError, one line."""
    if not isinstance(text, str):
        raise TypeError(f"upstream {text!r}: {_EXPECTED}")
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Target(text, "unix", "\0" + rest[1:] if rest[0] == "@" else rest)
    if text.startswith(("srv:", "_")):
        name = text.removeprefix("srv:")
        if not name.startswith("_") or "." not in name or ":" in name:
            raise ValueError(f"upstream {text!r}: {_EXPECTED}")
        return Target(text, "srv", name)
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if not bare or (":" in bare) != (bare != host) or any(c.isspace() or c in "/@" for c in bare):
        raise ValueError(f"upstream {text!r}: {_EXPECTED}")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"upstream {text!r}: port {port!r}: expected 1 to 65535")
    return Target(text, "host", bare, int(port))


class Lookup:
    """Finds addresses by `resolver`, an ``aiodns.DNSResolver``; None: one is made when needed."""

    def __init__(self, resolver: Any = None) -> None:
        self._resolver = resolver
        self._own: Any = None

    async def find(self, target: Target) -> Resolved:
        """The addresses of a target.

        Raises LookupFailed; ImportError when there is a name, and no aiodns.
        """
        if target.kind == "unix":
            return [Found(socket.AF_UNIX, target.name)], _FOR_EVER
        if target.kind == "srv":
            return await self._service(target.name)
        return await self._host(target.name, target.port)

    async def _host(self, name: str, port: int, priority: int = 0, weight: int = 1) -> Resolved:
        version = _version(name)
        if version:
            address = (name, port, 0, 0) if version == 6 else (name, port)
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            return [Found(family, address, priority, weight)], _FOR_EVER
        asked = self._ask().getaddrinfo(name, port=port, type=socket.SOCK_STREAM)
        nodes = (await self._answer(name, asked)).nodes
        if not nodes:
            raise LookupFailed(f"{name}: it has no address")
        found = {Found(int(node.family), (node.addr[0].decode(), port, *node.addr[2:]), priority,
                       weight): node.ttl for node in nodes[:_MOST]}
        return list(found), max(_SHORTEST, min(found.values()))

    async def _service(self, name: str) -> Resolved:
        """RFC 2782: the hosts of a service, and then their addresses."""
        # A host "." says that there is none.
        records = [record for record in await self._records(name) if record[3].rstrip(".")]
        if not records:
            raise LookupFailed(f"{name}: there is no such service")
        answers = await asyncio.gather(*(
            self._host(host.rstrip("."), port, priority, weight)
            for priority, weight, port, host, _ in records[:_MOST]), return_exceptions=True)
        good = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not good:
            raise cast(Exception, answers[0])
        found = dict.fromkeys(one for addresses, _ in good for one in addresses)
        shortest = min(*(ttl for _, ttl in good), *(record[4] for record in records))
        return list(found), max(_SHORTEST, shortest)

    async def _records(self, name: str) -> list[tuple[int, int, int, str, int]]:
        """Priority, weight, port, host and TTL of each SRV record."""
        resolver = self._ask()
        if hasattr(resolver, "query_dns"):  # aiodns 4
            answer = (await self._answer(name, resolver.query_dns(name, "SRV"))).answer
            return [(one.data.priority, one.data.weight, one.data.port, one.data.target, one.ttl)
                    for one in answer if hasattr(one.data, "priority")]
        return [(one.priority, one.weight, one.port, one.host, one.ttl)
                for one in await self._answer(name, resolver.query(name, "SRV"))]

    async def _answer(self, name: str, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except Exception as error:  # of c-ares, by way of pycares: DNSError, UnicodeError
            if error.args[:1] == (NO_DATA,):
                forget_answers(self._resolver)
            said = error.args[1] if len(error.args) > 1 else error
            raise LookupFailed(f"{name}: {said}") from error

    def _ask(self) -> Any:
        if self._resolver is None:
            try:
                import aiodns
            except ImportError as error:
                raise ImportError("Proxy: names are looked up by aiodns: pip install aiodns"
                                  ) from error
            self._resolver = self._own = aiodns.DNSResolver()
        return self._resolver

    async def close(self) -> None:
        """End the resolver that was made here."""
        own, self._own = self._own, None
        if own is not None:
            self._resolver = None
            await _closed(own)


async def _closed(resolver: Any) -> None:
    if hasattr(resolver, "close"):  # aiodns 3.5
        await resolver.close()
    else:
        resolver.cancel()


def _version(name: str) -> int:
    """4 or 6 of an address, 0 of a name."""
    try:
        return ipaddress.ip_address(name).version
    except ValueError:
        return 0

