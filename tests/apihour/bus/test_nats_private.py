"""What this project uses of nats-py's private names is there, and is needed."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription

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


NO_MESSAGES = [
    (b"orders.\xff", b"", b""), (b"orders.a", b"\xff", b""), (b"orders.a", b"", b"N"),
    (b"orders.a", b"", b"\r\n"), (b"orders.a", b"", b"NATS/1.0 \xff\xfe\r\nno colon\r\n\r\n"),
]


@pytest.mark.parametrize("kind", [Client, OrderedClient])
@pytest.mark.parametrize(("subject", "reply", "headers"), NO_MESSAGES)
async def test_what_is_no_message_does_not_end_the_connection_of_all_who_subscribe(
    kind: type[Any], subject: bytes, reply: bytes, headers: bytes
) -> None:
    said: list[Exception] = []

    async def failed(error: Exception) -> None:
        said.append(error)

    client = kind()
    client._error_cb = failed
    subscription = Subscription(client, 1, "orders.>")
    client._subs[1] = subscription
    given = (1, subject, reply, b"x", headers)
    if kind is Client:  # its reading loop would connect again
        with pytest.raises((ValueError, LookupError)):
            await client._process_msg(*given)
        return
    await client._process_msg(*given)
    assert "no message" in str(said[0])
    await client._process_msg(1, b"orders.a", b"", b"good", b"")
    assert (await subscription.next_msg(1)).data == b"good"
