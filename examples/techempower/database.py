"""Makes the tables of the benchmark in the database of DATABASE_URL, unless they are there."""

import asyncio
import os
import random

import asyncpg

TABLES = """
CREATE TABLE world (id integer PRIMARY KEY, randomnumber integer NOT NULL);
CREATE TABLE fortune (id integer PRIMARY KEY, message varchar(2048) NOT NULL);
"""
# As many as the benchmark's own, of the same kinds: markup to be escaped, text beyond ASCII.
FORTUNES = [
    "A worker that waits is a worker that counts.",
    "Every cache is right until somebody asks it.",
    "Feathers & bricks fall alike, in a vacuum.",
    "The first rule of a reload: nobody notices.",
    'She said "later", and meant "never".',
    "Two hard things: names, and off-by-one errors.",
    "A test that cannot fail has not been written yet.",
    "Of three retries the fourth is the worst.",
    "Zero is a number, too, until it divides.",
    "日本語の占い: 明日は晴れ",
    "<script>alert('this is text, not a program');</script>",
    "Whoever reads this has reached the last row.",
]


async def make(url):
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('world')") is None:
            await fill(connection)
    finally:
        await connection.close()


async def fill(connection):
    async with connection.transaction():
        await connection.execute(TABLES)
        await connection.copy_records_to_table(
            "world", records=[(number, random.randint(1, 10_000)) for number in range(1, 10_001)])
        await connection.copy_records_to_table(
            "fortune", records=list(enumerate(FORTUNES, 1)))


if __name__ == "__main__":
    asyncio.run(make(os.environ["DATABASE_URL"]))
