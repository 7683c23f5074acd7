"""PostgreSQL behind a real PgBouncer in transaction mode, by one option."""

import asyncio

import pytest

from apihour.engines import EngineDownError, Postgres, Psycopg
from tests.apihour.engines.support import running


async def test_without_the_option_it_is_named(pgbouncer):
    with pytest.raises(EngineDownError, match="behind a PgBouncer, expected pgbouncer=True"):
        async with running(Postgres(pgbouncer, start_timeout=0.3)):
            pass


@pytest.mark.parametrize("kind", [Postgres, Psycopg])
async def test_transactions_hop_between_its_connections_and_none_fails(kind, pgbouncer):
    async with running(kind(pgbouncer, max=8, pgbouncer=True)) as engine:
        backends = set()

        async def one(number):
            async with engine.transaction() as connection:
                if kind is Postgres:
                    row = await connection.fetchrow(
                        "SELECT pg_backend_pid(), $1::int + 1", number)
                    again = await connection.fetchval("SELECT $1::int + 1", number)
                else:
                    found = await connection.execute(
                        "SELECT pg_backend_pid(), %s::int + 1", (number,))
                    row = await found.fetchone()
                    found = await connection.execute("SELECT %s::int + 1", (number,))
                    again = (await found.fetchone())[0]
                backends.add(row[0])
                assert row[1] == again == number + 1

        for start in range(0, 400, 40):
            await asyncio.gather(*(one(start + number) for number in range(40)))
        assert engine.statistics()["errors"] == 0 and 1 <= len(backends) <= 2
        assert engine.statistics()["size"] > 2  # ours, before its two
