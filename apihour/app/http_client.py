"""What is behind ``container.http`` and ``container.resolver``; imported when first used only."""

from __future__ import annotations

import asyncio
import importlib
import socket
from typing import Any

__all__ = ["make_resolver", "make_session"]


def make_resolver(loop: asyncio.AbstractEventLoop, options: Any) -> Any:
    """An aiodns resolver with these `options` of the configuration.

    Raises ImportError naming what is missing.
    """
    try:
        aiodns = importlib.import_module("aiodns")
    except ImportError as error:
        raise ImportError("container.resolver needs aiodns: pip install aiodns") from error
    return aiodns.DNSResolver(loop=loop, **dict(options or {}))


def make_session(resolver: Any) -> Any:
    """Return a client session whose names are looked up by `resolver` (aiodns).

    Raises ImportError naming what is missing.
    """
    try:
        aiohttp = importlib.import_module("aiohttp")
        abc = importlib.import_module("aiohttp.abc")
    except ImportError as error:
        raise ImportError("container.http needs aiohttp: pip install aiohttp") from error

    class Resolver(abc.AbstractResolver):  # type: ignore[misc, name-defined]
        """aiohttp's resolver interface over the container's own aiodns resolver."""

        async def resolve(
            self, host: str, port: int = 0, family: int = socket.AF_INET
        ) -> list[dict[str, Any]]:
            try:
                found = await resolver.getaddrinfo(
                    host, port=port, family=family, type=socket.SOCK_STREAM
                )
            except Exception as error:
                raise OSError(None, f"DNS lookup of {host!r} failed: {error}") from error
            return [
                {"hostname": host, "host": _text(node.addr[0]), "port": node.addr[1],
                 "family": node.family, "proto": 0, "flags": socket.AI_NUMERICHOST}
                for node in found.nodes
            ]

        async def close(self) -> None:
            """The container closes its resolver itself."""

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver()))


def _text(address: bytes | str) -> str:
    return address.decode() if isinstance(address, bytes) else address
