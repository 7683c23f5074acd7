"""Requests as clients send them: every one differs from the one before it.

Rules:

- ``distinct(kind, count)`` makes the same requests on every call, so that all servers get
  the same; each comes with the body that must answer it.
- Only ``same`` repeats: one request, as most load generators send it. It is there to show
  what that flatters.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from peers.common import LARGE, MESSAGE_JSON, RESOURCES

__all__ = ["COUNT", "KINDS", "Sent", "distinct", "refused"]

COUNT = 4096  # more than anything caches per worker, and little enough for a script of wrk
JSON, PLAIN = "application/json", "text/plain"
HOST = ("Host", "localhost")
BROWSER = [
    HOST, ("Connection", "keep-alive"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                   "Chrome/131.0.0.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
               "*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9,fr;q=0.8,nl;q=0.7"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "https://www.example.org/products/shoes?page=2&sort=price"),
    ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
]
NAMES = ("Ada", "Alan", "Barbara", "Charles", "Edsger", "Grace", "Ken", "Margaret")
LARGE_BODY = LARGE.encode()
BAD_USER = b'{"name":"Ada","email":"ada@example.org","age":"old","tags":["math"]}'


@dataclass(frozen=True)
class Sent:
    """The bytes of a request, and what must answer it: 400 stands for any refusal of input."""

    raw: bytes
    body: bytes = MESSAGE_JSON
    media: str = JSON
    status: int = 200


def head(target: str, fields: list[tuple[str, str]], method: str = "GET") -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode()


def same(draw: Random) -> Sent:
    return Sent(head("/json", [HOST]))


def _own(draw: Random, path: str) -> tuple[str, tuple[str, str]]:
    """A target with a query and the header of a request's id, both its own."""
    return (f"{path}?user={draw.randrange(10 ** 7)}&page={draw.randrange(1000)}",
            ("X-Request-Id", f"{draw.getrandbits(128):032x}"))


def query(draw: Random) -> Sent:
    target, own = _own(draw, "/json")
    return Sent(head(target, [HOST, own]))


def browser(draw: Random) -> Sent:
    cookie = f"session={draw.getrandbits(128):032x}; theme=dark; seen={draw.randrange(10 ** 9)}"
    return Sent(head("/json", [*BROWSER, ("Cookie", cookie)]))


def post(draw: Random) -> Sent:
    name, age = f"{draw.choice(NAMES)} {draw.randrange(10 ** 6)}", draw.randrange(18, 99)
    tags = [f"tag{draw.randrange(1000)}" for _ in range(draw.randrange(1, 5))]
    user = {"name": name, "email": f"{draw.getrandbits(40):x}@example.org", "age": age,
            "tags": tags}
    answer = {"name": name, "age": age, "tags": len(tags)}
    return posted(_packed(user), _packed(answer))


def refused() -> Sent:
    """A POST whose body does not fit."""
    return posted(BAD_USER, b"", 400)


def posted(body: bytes, answer: bytes, status: int = 200) -> Sent:
    fields = [HOST, ("Content-Type", JSON), ("Content-Length", str(len(body)))]
    return Sent(head("/users", fields, "POST") + body, answer, JSON, status)


def routes(draw: Random) -> Sent:
    number, item = draw.randrange(1, 10 ** 6), f"item{draw.randrange(10 ** 6)}"
    return Sent(head(f"/{draw.choice(RESOURCES)}/{number}/items/{item}", [HOST]),
                _packed({"id": number, "item": item}))


def large(draw: Random) -> Sent:
    target, own = _own(draw, "/large")
    return Sent(head(target, [HOST, own]), LARGE_BODY, PLAIN)


def close(draw: Random) -> Sent:
    target, own = _own(draw, "/json")
    return Sent(head(target, [HOST, own, ("Connection", "close")]))


KINDS: dict[str, Callable[[Random], Sent]] = {
    "query": query, "browser": browser, "post": post, "routes": routes, "close": close,
    "large": large, "same": same,
}


def distinct(kind: str, count: int = COUNT) -> list[Sent]:
    """`count` requests of `kind`, each with its own values; of ``same`` there is but one."""
    draw = Random(kind)
    return [KINDS[kind](draw) for _ in range(1 if kind == "same" else count)]


def _packed(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
