"""psycopg's private name does what it is used for."""

import asyncio

import psycopg
import pytest

from apihour.engines.psycopg_private import patient_connection
from tests.apihour.engines.support import until


async def test_a_cancel_that_the_server_did_not_hear_is_sent_again(database, monkeypatch):
    sent = []

    async def lost_at_first(self, *, timeout=30.0):
        sent.append(timeout)
        if len(sent) > 1:
            await original(self, timeout=timeout)

    original = psycopg.AsyncConnection.cancel_safe
    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", lost_at_first)
    connection = await patient_connection(psycopg).connect(database, autocommit=True)
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    async with asyncio.timeout(30):
        await until(lambda: connection.info.transaction_status
                    == psycopg.pq.TransactionStatus.ACTIVE)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert len(sent) > 1 and connection.asking is None
    assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    await connection.close()
