"""The table of items: statements, and what a row is as JSON."""

import ujson

MOST = 50  # items of one answer
COLUMNS = "id, name, category, price, quantity, active, tags, rating_score, rating_count"
RANGE = f"SELECT {COLUMNS} FROM items WHERE price BETWEEN $1 AND $2 LIMIT $3"
PAGE = f"SELECT {COLUMNS} FROM items WHERE category = $1 ORDER BY id LIMIT $2 OFFSET $3"
ONE = f"SELECT {COLUMNS} FROM items WHERE id = $1"
CREATE = f"""
INSERT INTO items ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, true, '[]', 0, 0)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, category = excluded.category, price = excluded.price,
    quantity = excluded.quantity
RETURNING {COLUMNS}
"""
UPDATE = f"""
UPDATE items SET name = $2, price = $3, quantity = $4 WHERE id = $1 RETURNING {COLUMNS}
"""


def within(limit):
    return min(max(limit, 1), MOST)


def as_item(row):
    """A row with its rating as an object, and its tags as a list."""
    return {
        "id": row["id"], "name": row["name"], "category": row["category"], "price": row["price"],
        "quantity": row["quantity"], "active": row["active"], "tags": ujson.loads(row["tags"]),
        "rating": {"score": row["rating_score"], "count": row["rating_count"]}}
