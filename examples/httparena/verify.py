"""Verifies a server against the rules of HttpArena's profiles over HTTP/1.1 and WebSocket.

``python verify.py HOST:PORT [TLS_HOST:PORT]``; DATA_DIR is what it serves from. Prints a line for
each check that fails and ends with 1, or says how many have passed.
"""

import gzip
import http.client
import json
import os
import random
import re
import socket
import ssl
import sys
import time
from pathlib import Path

from websockets.sync.client import connect

DATA = Path(os.environ.get("DATA_DIR", "/data"))
TYPES = {".css": "text/css", ".js": "(application|text)/javascript", ".json": "application/json",
         ".html": "text/html", ".svg": "image/svg.xml", ".webp": "image/webp",
         ".woff2": "font/woff2"}


class Verifier:
    """Asks, and keeps what is wrong."""

    def __init__(self, address, secure=None):
        self.address = address
        self.secure = secure
        self.passed = 0
        self.failed = []

    def check(self, what, is_right, found=""):
        if is_right:
            self.passed += 1
        else:
            self.failed.append(f"{what}: {found!r}"[:300])

    def ask(self, method, path, body=None, headers=None, connection=None):
        """Status, headers and body."""
        own = connection or http.client.HTTPConnection(self.address, timeout=30)
        own.request(method, path, body, headers or {})
        answer = own.getresponse()
        found = answer.status, answer.headers, answer.read()
        if connection is None:
            own.close()
        return found

    def expect(self, what, body, kind, found):
        self.check(f"{what}: status", found[0] == 200, found[0])
        self.check(f"{what}: Content-Type", re.match(rf"{kind}(;|$)",
                   found[1].get("Content-Type", "")), found[1].get("Content-Type"))
        self.check(what, found[2] == body, found[2])

    def verify_baseline(self):
        a, b, c = (random.randint(100, 999) for _ in range(3))
        path = f"/baseline11?a={a}&b={b}"
        plain = {"Content-Type": "text/plain"}
        self.expect("GET baseline", b"%d" % (a + b), "text/plain", self.ask("GET", path))
        self.expect("POST baseline", b"%d" % (a + b + c), "text/plain",
                    self.ask("POST", path, str(c), plain))
        self.expect("POST baseline, chunked", b"%d" % (a + b + c), "text/plain",
                    self.ask("POST", path, iter([str(c).encode()]), plain))
        head = "GET /baseline11?a=13&b=42 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        post = head.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n")
        for pieces, total in (
            ((head[:9], head[9:40], head[40:]), b"55"), ((head[:38], head[38:]), b"55"),
            ((post, "20"), b"75"), ((post, "2", "0"), b"75"), (tuple(head), b"55"),
        ):
            found = self.raw(pieces)
            self.check(f"baseline in {len(pieces)} pieces", found.endswith(b"\r\n\r\n" + total),
                       found)

    def raw(self, pieces, pause=0.005):
        """All that is answered to those pieces, sent one by one, until the server closes."""
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                sock.sendall(piece.encode())
                time.sleep(pause)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def verify_short_lived(self):
        for _ in range(5):
            connection = http.client.HTTPConnection(self.address, timeout=30)
            found = [self.ask("GET", "/baseline11?a=1&b=2", connection=connection)[2]
                     for _ in range(10)]
            connection.close()
            self.check("short-lived", found == [b"3"] * 10, found)

    def verify_pipelined(self):
        self.expect("pipeline", b"ok", "text/plain", self.ask("GET", "/pipeline"))
        one = "GET /pipeline HTTP/1.1\r\nHost: x\r\n\r\n"
        last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        found = self.raw([one * 15 + last]).count(b"\r\n\r\nok")
        self.check("16 at once", found == 16, found)

    def verify_json(self, what="json", connection=None):
        dataset = json.loads((DATA / "dataset.json").read_text())
        for count, m in ((12, 3), (22, 7), (31, 2), (50, 5), (1, random.randint(2, 9))):
            items = [{**one, "total": one["price"] * one["quantity"] * m}
                     for one in dataset[:count]]
            _, headers, body = self.ask("GET", f"/json/{count}?m={m}", connection=connection)
            self.check(f"{what} {count}", json.loads(body) == {"items": items, "count": count},
                       body)
            self.check(f"{what} {count}: Content-Type",
                       headers["Content-Type"].startswith("application/json"),
                       headers["Content-Type"])
            self.check(f"{what} {count}: not compressed", "Content-Encoding" not in headers,
                       headers.get("Content-Encoding"))

    def verify_json_compressed(self):
        for count, m in ((25, 3), (40, 7), (50, 2)):
            _, headers, body = self.ask("GET", f"/json/{count}?m={m}", None,
                                        {"Accept-Encoding": "gzip, br"})
            how = headers.get("Content-Encoding")
            self.check("json-comp: compressed", how in ("gzip", "br"), how)
            found = json.loads(unpacked(how, body))
            items = found["items"]
            self.check("json-comp", found["count"] == len(items) == count and all(
                one["total"] == one["price"] * one["quantity"] * m for one in items), found)

    def verify_json_tls(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        connection = http.client.HTTPSConnection(self.secure, timeout=30, context=context)
        connection.connect()
        chosen = connection.sock.selected_alpn_protocol()  # None: it knows no ALPN
        self.check("json-tls: ALPN", chosen in (None, "http/1.1"), chosen)
        self.verify_json("json-tls", connection)
        connection.close()

    def verify_upload(self):
        for size in (0, 17, 512_000, 2 << 20, 20 << 20):
            body = random.randbytes(size)
            found = self.ask("POST", "/upload", body, {"Content-Type": "application/octet-stream"})
            self.expect(f"upload of {size}", b"%d" % size, "text/plain", found)
        pieces = [random.randbytes(10_000) for _ in range(20)]
        self.expect("upload, chunked", b"200000", "text/plain",
                    self.ask("POST", "/upload", iter(pieces)))

    def verify_static(self):
        files = [path for path in sorted((DATA / "static").iterdir())
                 if path.suffix not in (".br", ".gz")]
        self.check("static: 20 files", len(files) == 20, len(files))
        for path in files:
            name = f"/static/{path.name}"
            self.expect(name, path.read_bytes(), TYPES[path.suffix], self.ask("GET", name))
            _, headers, body = self.ask("GET", name, None,
                                        {"Accept-Encoding": "br;q=1, gzip;q=0.8"})
            how = headers.get("Content-Encoding")
            self.check(f"{name}: {how}", unpacked(how, body) == path.read_bytes(), len(body))
        self.check("static: 404", self.ask("GET", "/static/nothing.txt")[0] == 404)

    def verify_async_db(self):
        for low, high, limit in ((5, 80, 7), (20, 150, 18), (100, 400, 33), (10, 50, 50)):
            found = self.json("GET", f"/async-db?min={low}&max={high}&limit={limit}")
            self.check(f"async-db {limit}", found["count"] == len(found["items"]) == limit, found)
            self.check(f"async-db {limit}: items", all(
                low <= one["price"] <= high and is_item(one) for one in found["items"]), found)
        self.check("async-db: defaults", all(
            10 <= one["price"] <= 50 for one in self.json("GET", "/async-db")["items"]))
        self.check("async-db: at most 50", self.json(
            "GET", "/async-db?min=1&max=500&limit=900")["count"] == 50)
        self.check("async-db: at least 1", self.json(
            "GET", "/async-db?min=1&max=500&limit=0")["count"] == 1)
        found = self.json("GET", "/async-db?min=9999&max=9999&limit=50")
        self.check("async-db: none", found == {"items": [], "count": 0}, found)

    def json(self, method, path, body=None, status=200):
        kind = {"Content-Type": "application/json"} if body is not None else {}
        found = self.ask(method, path, json.dumps(body) if body is not None else None, kind)
        self.check(f"{method} {path}: status", found[0] == status, found[0])
        return json.loads(found[2])

    def verify_crud(self):
        found = self.json("GET", "/crud/items?category=electronics&page=2&limit=5")
        self.check("crud: page", (len(found["items"]), found["total"], found["page"],
                                  found["limit"]) == (5, 5, 2, 5), found)
        self.check("crud: of its category", all(
            one["category"] == "electronics" and is_item(one) for one in found["items"]), found)
        first = self.json("GET", "/crud/items?category=electronics&limit=5")["items"]
        self.check("crud: pages differ", first[-1]["id"] < found["items"][0]["id"], first)
        self.json("GET", "/crud/items/999999", status=404)
        self.json("PUT", "/crud/items/999999", {"name": "a", "price": 1, "quantity": 1}, 404)
        new = {"id": 200_001, "name": "New", "category": "test", "price": 25, "quantity": 10}
        for name in ("New", "Newer"):  # the second time it is there already
            made = self.json("POST", "/crud/items", {**new, "name": name}, 201)
            self.check("crud: created", made["name"] == name and is_item(made), made)
        time.sleep(0.3)  # what was cached is older than it may be
        told = [self.cached(200_001) for _ in range(2)]
        self.check("crud: MISS, then HIT", [how for how, _ in told] == ["MISS", "HIT"], told)
        self.check("crud: the same", told[0][1] == told[1][1] == made, told)
        changed = {"name": "Changed", "price": 30, "quantity": 5}
        found = self.json("PUT", "/crud/items/200001", changed)
        self.check("crud: changed", changed.items() <= found.items(), found)
        how, found = self.cached(200_001)
        self.check("crud: a change is seen at once", how == "MISS" and found["price"] == 30, found)
        time.sleep(0.3)
        self.check("crud: 200 ms", self.cached(200_001)[0] == "MISS")

    def cached(self, number):
        _, headers, body = self.ask("GET", f"/crud/items/{number}")
        return headers.get("X-Cache"), json.loads(body)

    def verify_api(self):
        """The mix of api-4 and api-16, on connections of five requests."""
        for _ in range(4):
            connection = http.client.HTTPConnection(self.address, timeout=30)
            found = [self.ask("GET", path, connection=connection)[0] for path in (
                "/baseline11?a=1&b=2", "/json/10?m=3", "/async-db?min=10&max=50&limit=5",
                "/json/50?m=1", "/async-db?min=10&max=50&limit=50")]
            connection.close()
            self.check("api", found == [200] * 5, found)

    def verify_websocket(self):
        with connect(f"ws://{self.address}/ws") as socket_:
            for message in ("hello", "", "grüße", b"\x00\xff", "x" * 100_000):
                socket_.send(message)
                found = socket_.recv(timeout=30)
                self.check("echo", found == message, found)
            for number in range(50):
                socket_.send(str(number))
            found = [socket_.recv(timeout=30) for _ in range(50)]
            self.check("echo: in order", found == [str(number) for number in range(50)], found)
            self.check("echo: pong", socket_.ping().wait(30))
        self.check("echo: closed", socket_.close_code == 1000, socket_.close_code)
        self.check("echo: no upgrade", 400 <= self.ask("GET", "/ws")[0] < 500)

    def verify(self):
        steps = [self.verify_baseline, self.verify_short_lived, self.verify_pipelined,
                 self.verify_json, self.verify_json_compressed, self.verify_upload,
                 self.verify_static, self.verify_async_db, self.verify_crud, self.verify_api,
                 self.verify_websocket]
        for step in [*steps, *([self.verify_json_tls] if self.secure else [])]:
            try:
                step()
            except Exception as error:  # an answer that cannot even be read is wrong
                self.check(step.__name__, False, error)


def is_item(one):
    """Whether it has the shape of an item."""
    numbers = [one[name] for name in ("id", "price", "quantity")] + list(one["rating"].values())
    return (all(type(number) is int for number in numbers) and type(one["active"]) is bool
            and type(one["tags"]) is list and one["rating"].keys() == {"score", "count"})


def unpacked(how, body):
    if how == "br":
        import brotli

        return brotli.decompress(body)
    return gzip.decompress(body) if how == "gzip" else body


if __name__ == "__main__":
    verifier = Verifier(*sys.argv[1:3])
    verifier.verify()
    for line in verifier.failed:
        print(f"FAILED {line}")
    print(f"{verifier.passed} passed, {len(verifier.failed)} failed")
    sys.exit(1 if verifier.failed else 0)
