"""What every peer answers: the same bodies, so that their figures can be compared.

Rules:

- Each framework encodes as its own documentation recommends for speed; where it leaves the
  choice open it is orjson for answers and msgspec for the validated request.
- Nothing here imports a framework.
"""

from __future__ import annotations

import msgspec

MESSAGE = {"message": "Hello, World!"}
MESSAGE_JSON = b'{"message":"Hello, World!"}'
LARGE = "0123456789abcdef" * 4096
RESOURCES = [
    "users", "groups", "teams", "orders", "invoices", "payments", "products", "carts",
    "reviews", "coupons", "stores", "shelves", "suppliers", "parcels", "routes", "drivers",
    "tickets", "events", "venues", "seats",
]


class User(msgspec.Struct):
    """The body that POST /users checks."""

    name: str
    email: str
    age: int
    tags: list[str]


decode_user = msgspec.json.Decoder(User).decode


def welcome(user: User) -> dict[str, object]:
    """What POST /users answers for a body that is valid."""
    return {"name": user.name, "age": user.age, "tags": len(user.tags)}
