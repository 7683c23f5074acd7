"""What this project uses of nats-py's private names is there, and is needed."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import PING_PROTO, Client

from apihour.bus.nats_private import OrderedClient


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)

    def writelines(self, lines: list[bytes]) -> None:
        self.data += lines


@pytest.mark.parametrize(("kind", "in_order"), [(Client, False), (OrderedClient, True)])
async def test_what_waits_is_written_before_a_ping(
    kind: type[Any], in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kicked() -> None:
        pass

    monkeypatch.setattr(kind, "is_connected", True)
    client = kind()
    client._transport, client._pongs = Written(), []
    client._pending, client._pending_data_size = [b"SUB a\r\n"], 7
    client._flush_pending = kicked
    await client._send_ping()
    found = client._transport.data + client._pending
    wanted = [b"SUB a\r\n", PING_PROTO]
    assert found == (wanted if in_order else wanted[::-1])
