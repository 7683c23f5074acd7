"""What HttpArena's profiles ask: the requests of each, as wrk's Lua has them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from _bench import ROOT

__all__ = ["CONNECTIONS", "EXAMPLE", "LUA", "PROFILES", "ROWS", "Profile"]

CONNECTIONS = 64
EXAMPLE = ROOT / "examples" / "httparena"
ROWS = 50_000
HOST = "Host: 127.0.0.1"


@dataclass(frozen=True)
class Profile:
    """`requests` are sent in turn, as Lua writes them; `steps` of the verifier come before.

    `form` is what the server is started for: plain HTTP, ``tls``, ``ws``, or with a ``redis``.
    """

    steps: tuple[str, ...]
    requests: Callable[[], list[str]]
    form: str = ""
    connections: int = CONNECTIONS


def lua(text: str, filling: int = 0) -> str:
    """A request as Lua's expression of a string, with a body of that many bytes behind."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\\r\\n") + '"'
    return f'{quoted} .. string.rep("x", {filling})' if filling else quoted


def get(path: str, *fields: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", HOST, *fields, "", ""])


def send(method: str, path: str, body: str, kind: str = "application/json") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", HOST, f"Content-Type: {kind}",
                        f"Content-Length: {len(body)}", "", body])


def baseline() -> list[str]:
    chunked = send("POST", "/baseline11?a=13&b=42", "", "text/plain").replace(
        "Content-Length: 0", "Transfer-Encoding: chunked") + "2\r\n20\r\n0\r\n\r\n"
    whole = send("POST", "/baseline11?a=13&b=42", "20", "text/plain")
    return [lua(one) for one in (get("/baseline11?a=13&b=42"), whole, chunked)]


def short_lived() -> list[str]:
    one = get("/baseline11?a=13&b=42")
    return [lua(one)] * 9 + [lua(get("/baseline11?a=13&b=42", "Connection: close"))]


def upload() -> list[str]:
    head = "\r\n".join(["POST /upload HTTP/1.1", HOST, "Content-Length: {0}", "", ""])
    return [lua(head.format(size), size) for size in (512_000, 2 << 20)]


def json(*fields: str) -> list[str]:
    return [lua(get(f"/json/{count}?m={m}", *fields)) for count, m in ((25, 4), (40, 8), (50, 6))]


def json_tls() -> list[str]:
    pairs = ((1, 3), (5, 7), (10, 2), (15, 5), (25, 4), (40, 8), (50, 6))
    return [lua(get(f"/json/{count}?m={m}")) for count, m in pairs]


def static() -> list[str]:
    sys.path.append(str(EXAMPLE))
    from data import OTHERS, TEXTS

    return [lua(get(f"/static/{name}", "Accept-Encoding: br;q=1, gzip;q=0.8"))
            for name in (*TEXTS, *OTHERS)]


def async_db() -> list[str]:
    return [lua(get(f"/async-db?min=10&max=50&limit={limit}")) for limit in (5, 10, 20, 35, 50)]


def crud() -> list[str]:
    """Of 20: 15 read, 3 change, one lists, one creates; read and changed is any of the items.

    NUMBER, which stands for one as long as itself, is another one in each request.
    """
    changed = '{"name":"Changed","price":30,"quantity":5}'
    created = '{"id":NUMBER,"name":"New","category":"test","price":25,"quantity":10}'
    any_item = f"/crud/items/RANDOM:{ROWS}"
    return [*[lua(get(any_item))] * 15, *[lua(send("PUT", any_item, changed))] * 3,
            lua(get("/crud/items?category=office&page=RANDOM:10")),
            lua(send("POST", "/crud/items", created))]


def api() -> list[str]:
    """Connections are of five requests, then others."""
    found = [*[get("/baseline11?a=1&b=2")] * 3,
             *[get(f"/json/{count}?m={m}") for count, m in ((25, 4), (40, 8), (50, 6))],
             *[get(f"/async-db?min=10&max=50&limit={limit}") for limit in (5, 10)]]
    last = [one.replace(HOST, f"{HOST}\r\nConnection: close") for one in found]
    # Eight kinds in turn, of which each fifth ends its connection.
    return [lua((last if turn % 5 == 4 else found)[turn % 8]) for turn in range(40)]


PROFILES = {
    "baseline": Profile(("verify_baseline",), baseline),
    "short-lived": Profile(("verify_short_lived",), short_lived),
    "pipelined": Profile(("verify_pipelined",), lambda: [lua(get("/pipeline") * 16)]),
    "json": Profile(("verify_json",), json),
    "json-comp": Profile(("verify_json_compressed",), lambda: json("Accept-Encoding: gzip, br")),
    "upload": Profile(("verify_upload",), upload),
    "static": Profile(("verify_static",), static),
    "async-db": Profile(("verify_async_db",), async_db),
    "crud": Profile(("verify_crud",), crud),
    "crud-redis": Profile(("verify_crud",), crud, "redis"),
    "api-4": Profile(("verify_api",), api),
    "api-16": Profile(("verify_api",), api, connections=256),
    "json-tls": Profile(("verify_json_tls",), json_tls, "tls"),
    "echo-ws": Profile(("verify_websocket",), list, "ws"),
}
LUA = """
local requests = {REQUESTS}
local turn, sequence = 0, 100000
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
if table.concat(requests):find("RANDOM:%d") then
  math.randomseed(os.time())
  request = function()
    turn = turn % #requests + 1
    local text = requests[turn]:gsub("RANDOM:(%d+)", math.random)
    return (text:gsub("NUMBER", function() sequence = sequence + 1; return sequence end))
  end
end
"""
