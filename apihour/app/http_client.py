"""The aiohttp client session behind ``container.http``; imported when first used only."""

from __future__ import annotations

import importlib
import socket
from typing import Any

__all__ = ["make_session"]


def make_session(resolver: Any) -> Any:
    """Return a client session whose names are looked up by `resolver` (aiodns).

    Raises ImportError when aiohttp is missing.
    """
    aiohttp = importlib.import_module("aiohttp")
    abc = importlib.import_module("aiohttp.abc")

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
