"""Makes what the profiles read: ``data.py DIRECTORY`` the files, ``data.py [ROWS]`` the table.

HttpArena brings its own of both; these are of the same shapes and sizes.
"""

import asyncio
import gzip
import json
import os
import random
import sys
from pathlib import Path

import asyncpg

try:
    import brotli
except ImportError:  # then there are no .br variants
    brotli = None

CATEGORIES = ["electronics", "tools", "office", "outdoor", "kitchen"]
TAGS = ["fast", "new", "sale", "wireless", "popular", "heavy-duty"]
TABLE = """
CREATE TABLE items (
    id integer PRIMARY KEY, name text NOT NULL, category text NOT NULL, price integer NOT NULL,
    quantity integer NOT NULL, active boolean NOT NULL, tags jsonb NOT NULL,
    rating_score integer NOT NULL, rating_count integer NOT NULL)
"""
# KiB of each; what is text has its compressed variants beside it.
TEXTS = {
    "reset.css": 8, "layout.css": 25, "theme.css": 40, "components.css": 200, "utilities.css": 60,
    "analytics.js": 12, "helpers.js": 20, "app.js": 150, "vendor.js": 300, "router.js": 30,
    "header.html": 55, "footer.html": 120, "logo.svg": 15, "icon-sprite.svg": 70,
    "manifest.json": 3,
}
OTHERS = {"regular.woff2": 18, "bold.woff2": 22, "hero.webp": 45, "thumb1.webp": 6,
          "thumb2.webp": 8}


def items(count, chance):
    for number in range(1, count + 1):
        yield {
            "id": number, "name": f"Thing {number}", "category": chance.choice(CATEGORIES),
            "price": chance.randint(1, 500), "quantity": chance.randint(1, 100),
            "active": chance.random() < 0.8, "tags": chance.sample(TAGS, chance.randint(1, 4)),
            "rating": {"score": chance.randint(1, 50), "count": chance.randint(1, 500)}}


def make_files(directory):
    chance = random.Random(1)
    static = directory / "static"
    static.mkdir(parents=True, exist_ok=True)
    (directory / "dataset.json").write_text(json.dumps(list(items(50, chance))))
    words = [f"{chance.randrange(1 << 20):x}" for _ in range(500)]
    for name, size in TEXTS.items():
        text = " ".join(chance.choices(words, k=size * 1024 // 4)).encode()[:size * 1024]
        (static / name).write_bytes(text)
        (static / f"{name}.gz").write_bytes(gzip.compress(text))
        if brotli is not None:
            (static / f"{name}.br").write_bytes(brotli.compress(text, quality=5))
    for name, size in OTHERS.items():
        (static / name).write_bytes(chance.randbytes(size * 1024))


async def make_table(url, rows):
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('items')") is not None:
            return
        async with connection.transaction():
            await connection.execute(TABLE)
            await connection.copy_records_to_table("items", records=[
                (one["id"], one["name"], one["category"], one["price"], one["quantity"],
                 one["active"], json.dumps(one["tags"]), *one["rating"].values())
                for one in items(rows, random.Random(2))])
    finally:
        await connection.close()


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) > 1 else "100000"
    if word.isdigit():
        asyncio.run(make_table(os.environ["DATABASE_URL"], int(word)))
    else:
        make_files(Path(word))
