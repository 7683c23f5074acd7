"""Streams of requests, mutated, and what a server makes of each: with the extension and without.

    python -m tests.apihour_http.speed.streams [--streams 1000000] [--seed 1]

runs two processes, one of them with APIHOUR_NO_EXTENSIONS=1, that make the same streams and tell
what came of each hundred; the first that differs is shown, and ends it with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from apihour_asgi import ASGIServer
from apihour_http import HTTPServer, Request, Response, Routes
from apihour_http.speed import compiled

ROOT = Path(__file__).parents[3]
BATCH = 100

BROWSER = (
    b"GET /j HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, br\r\nCookie: a=b; c=d\r\nCookie: e=f\r\n\r\n")
GOOD = [
    b"GET /j HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /j?user=12&x=%20 HTTP/1.1\r\nhost: t\r\n\r\n",
    b"GET /later HTTP/1.1\r\nHost: t\r\nX-Id: 1\r\n\r\n", b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /p/12/x?y HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /p/a/x HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /text HTTP/1.1\r\nHost: t\r\nX-Empty:\r\nX-Tab:\t a\tb \t\r\n\r\n", BROWSER,
    b"GET /raises HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /nowhere?a HTTP/1.1\r\nHost: t\r\n\r\n",
    b"HEAD /j HTTP/1.1\r\nHost: t\r\n\r\n", b"OPTIONS /j HTTP/1.1\r\nHost: t\r\n\r\n",
    b"HEAD /own HTTP/1.1\r\nHost: t\r\n\r\n", b"DELETE /j HTTP/1.1\r\nHost: t\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /up HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: t\r\n\r\n",
    b"POST /app?a HTTP/1.1\r\nHost: t\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\na\r\n",
    b"PUT /app HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
    b"PUT /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"GET /j HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    b"GET /later HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    b"GET /wait HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    b"HEAD /own HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    b"GET /text?x HTTP/1.1\r\nHost: t\r\nX: y\r\nconnection: Close\r\n\r\n",
    b"GET /j HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n",
    b"GET /j HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET http://t/j?x HTTP/1.1\r\nHost: t\r\n\r\n",
    b"\r\nGET /j HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: t\r\nX: %s\r\n\r\n" % (b"l" * 60, b"v" * 90),
    b"GET /c/2?m=3 HTTP/1.1\r\nHost: t\r\n\r\n", b"HEAD /c/2?m=3 HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /c/400?&m&m=1&mm=2&k==a HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /c/400?m=%31 HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /c/9?m=%s&k=%s HTTP/1.1\r\nHost: t\r\n\r\n" % (b"&m=5" * 70, b"+"),
    b"GET /fails HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /fails/later HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /big/later HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /closes HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /loses HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /full HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /drains HTTP/1.1\r\nHost: t\r\n\r\n",
]
BITS = [
    b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80", b"\xff", b"?", b"#", b"/",
    b"\r\n\r\n", b"\x0b", b"\x1f", b"\x01", b",", b"\"", b"@", b"[", b";", b"0", b"9", b"\r\n ",
    b"Host: u\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: +1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"connection: Keep-Alive, x\r\n", b"Proxy-Connection: close\r\n", b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n", b"Sec-WebSocket-Key1: x\r\n", b"Content-Encoding: gzip\r\n",
    b"User-Agent: a\r\n", b"Content-Type: b\r\n", b"Keep-Alive: timeout=5\r\n", b"X:\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"TE: trailers\r\n", b"Trailer: a\r\n",
    b"HTTP/1.1",
]


def mutated(draw: random.Random, data: bytes) -> bytes:
    """`data` with a byte changed, a bit of HTTP put in, or a part doubled or gone."""
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.randrange(1, 12))
    kind = draw.randrange(6)
    if kind == 0:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1:]
    if kind == 1:
        return data[:at] + draw.choice(BITS) + data[at:]
    if kind == 2:  # where a field may stand
        lines = data.split(b"\r\n")
        lines.insert(draw.randrange(len(lines) + 1), draw.choice(BITS).removesuffix(b"\r\n"))
        return b"\r\n".join(lines)
    if kind == 3:
        return data[:at] + data[end:]
    if kind == 4:
        return data[:end] + data[at:]
    return data[:at] + data[at:end].swapcase() + data[end:]


NAMES = [b"Host", b"host", b"HOST", b"X-Id", b"Accept", b"Cookie", b"User-Agent", b"Content-Type",
         b"Content-Length", b"Connection", b"x!#$%&'*+.^_`|~0-9", b"Sec-WebSocket-Key1",
         b"Proxy-Connection", b"Keep-Alive", b"Expect", b"Upgrade", b"Transfer-Encoding",
         b"Content-Encoding", b"Content-Lengt\x08", b"\x43onnection", b"Hos\x14", b"(x)", b""]
HOSTS = [b"t", b"t:80", b"a.b-c_d~e", b"[::1]", b"t:", b"t:123456", b"u@h", b"a,b", b"a b", b"",
         b"%41", b"t:8a", b"a/b", b"!$&'()*+;=", b"t\t", b"t ", b":1", b"t:1:2", b"a\"b", b"a?b",
         b"a<b", b"\xe9"]
VALUES = [b"", b"a", b"keep-alive", b"Keep-Alive", b"keep-alive ", b"close", b"0", b"1", b"2",
          b"007", b"1000000000", b"a, b", b"a\tb", b"caf\xe9", b"x" * 7, b"x" * 8, b"x" * 75, b"1 ",
          b"chunked"]
# Where the kinds of bytes begin and end.
EDGES = b"\0\1\x08\t\n\x0b\r\x0e\x1f !\"#/09:;<=>?@AZ[\\]^`az{|}~\x7f\x80\xa0\xff"


def odd_byte(draw: random.Random) -> bytes:
    return bytes([draw.choice(EDGES) if draw.randrange(4) else draw.randrange(256)])


def composed(draw: random.Random) -> bytes:
    """A request put together, with one oddity or none."""
    odd = draw.randrange(8)
    method = draw.choice([b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"PUT"])
    target = draw.choice([b"/j", b"/p/1/a", b"/echo", b"/later", b"/own", b"/text"])
    if draw.randrange(2):
        target += b"?" + bytes(draw.choices(range(0x21, 0x7f), k=draw.choice((0, 1, 9, 36))))
    if odd == 0:
        target += odd_byte(draw)
    names = draw.choices(NAMES[3:9] if odd != 1 else NAMES, k=draw.choice((0, 1, 2, 3, 4, 5, 6)))
    fields = [(name, draw.choice(VALUES if draw.randrange(4) else HOSTS)) for name in names]
    host = draw.choice(HOSTS) if odd == 2 else b"t"
    if odd == 3:
        host += odd_byte(draw)
    fields.insert(draw.randrange(len(fields) + 1), (b"Host", host))
    if odd == 4:
        place = draw.randrange(len(fields))
        name, value = fields[place]
        fields[place] = name, value + odd_byte(draw) + draw.choice(VALUES)
    if odd == 5:
        place = draw.randrange(len(fields))
        fields[place] = fields[place][0] + odd_byte(draw), fields[place][1]
    gap = draw.choice((b" ", b"", b"\t ")) if odd == 6 else b" "
    lines = [name + b":" + gap + value for name, value in fields]
    version = b"HTTP/1." + (odd_byte(draw) if odd == 7 else b"1")
    return b"\r\n".join([b" ".join((method, target, version)), *lines, b"", b""]) + draw.choice(
        (b"", b"", b"a", b"ab"))


def reads(draw: random.Random) -> list[bytes]:
    """A stream, as it comes in reads."""
    messages = [draw.choice(GOOD) if draw.randrange(2) else composed(draw)
                for _ in range(draw.choice((1, 1, 2, 3, 4)))]
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        place = draw.randrange(len(messages))
        messages[place] = mutated(draw, messages[place])
    kind = draw.randrange(4)
    if kind < 2:
        return [message for message in messages if message]
    whole = b"".join(messages)
    if kind == 2 or not whole:
        return [whole] if whole else []
    cuts = sorted(draw.randrange(len(whole) + 1) for _ in range(draw.randrange(1, 5)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return [piece for piece in pieces if piece]


class Wire(asyncio.Transport):
    """A transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_open = True
        self.fills = self.has_filled = False
        self.lane: Any = None

    def write(self, data: Any) -> None:
        self.sent += data
        if self.fills:  # for a turn of the loop
            self.fills, self.has_filled = False, True
            self.lane.pause_writing()
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self.lane is not None:
            self.lane.resume_writing()

    def lose(self) -> None:
        """The client has gone."""
        self.is_open = False
        if self.lane is not None:
            lane, self.lane = self.lane, None
            lane.connection_lost(None)

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def close(self) -> None:
        self.is_open = False

    abort = write_eof = close

    def is_closing(self) -> bool:
        return not self.is_open

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Servers:
    """Servers whose endpoints note what they were given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.wire = Wire()
        self.all = [
            HTTPServer(routes, app, **limits, http2=False) for routes, app, limits in (
                (self._routes(), None, {}), (self._routes(), self._app(), {}),
                (None, self._app(), {}), (self._routes(), None, {"max_line": 16, "max_body": 1}),
                (self._routes(), None, {"max_fields": 3}),
                (self._routes(), None, {"max_field": 70}))
        ]
        self.all.append(ASGIServer(self._asgi, lifespan="off", http2=False))

    def _note(self, request: Request) -> dict[str, Any]:
        fields = [(name, value) for name, value in request.raw_headers]
        self.seen.append((request.method, request.path_qs, fields, request.body,
                          dict(request.match_info), request.keep_alive, request.version))
        return {"n": len(self.seen)}

    def _routes(self) -> Routes:
        routes, note = Routes(), self._note

        @routes.get("/raises")
        def raises(request: Request) -> Any:
            note(request)
            return Response(418, {"X": "y"}, "no")

        @routes.get("/text")
        def text(request: Request) -> str:
            return str(note(request))

        async def later(request: Request) -> Any:
            return note(request)

        async def wait(request: Request) -> Any:
            await asyncio.sleep(0)
            return note(request)

        for method, path in (("GET", "/j"), ("HEAD", "/own"), ("GET", "/p/{a:int}/{b}")):
            routes.route(method, path)(note)
        for method, path in (("GET", "/later"), ("POST", "/echo"), ("PUT", "/echo")):
            routes.route(method, path)(later)
        routes.get("/wait")(wait)

        @routes.get("/c/{n:int}", compress=True)
        def coded(request: Request, n: int, m: int, k: str = "") -> Any:
            return {**note(request), "m": m, "k": k, "rows": ["row"] * min(n, 500)}

        @routes.head("/c/{n:int}", compress=True)
        async def coded_head(request: Request, m: int, n: int) -> Any:
            return {**note(request), "m": m, "rows": ["row"] * min(n, 500)}

        self._add_rude(routes)

        @routes.put("/up", stream_body=True)
        async def upload(request: Request) -> Any:
            pieces = [piece async for piece in request.stream()]
            note(request)
            return {"sent": b"".join(pieces).decode("latin-1")}

        return routes

    def _add_rude(self, routes: Routes) -> None:
        """What endpoints do that they should not, and what comes in between."""
        note, loop = self._note, asyncio.get_running_loop

        @routes.get("/fails")
        def fails(request: Request) -> Any:
            raise ZeroDivisionError(note(request))

        @routes.get("/fails/later")
        async def fails_later(request: Request) -> Any:
            raise ZeroDivisionError(note(request))

        @routes.get("/big")
        def big(request: Request) -> Any:
            return {**note(request), "big": "x" * 70_000}

        @routes.get("/big/later")
        async def big_later(request: Request) -> Any:
            return Response(body=b"y" * (1 << 17), headers={"X": str(note(request))})

        @routes.get("/closes")
        def closes(request: Request) -> Any:
            self.wire.close()
            return note(request)

        @routes.get("/loses")
        def loses(request: Request) -> Any:
            loop().call_soon(self.wire.lose)
            return note(request)

        @routes.get("/full")
        def full(request: Request) -> Any:
            self.wire.fills = True
            return note(request)

        @routes.get("/drains")
        def drains(request: Request) -> Any:
            self.wire.lane.drain()
            return note(request)

    def _app(self) -> web.Application:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            self.seen.append((request.method, request.path_qs, list(request.raw_headers),
                              list(request.headers.items()), body))
            return web.Response(text=request.path)

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", handle)
        return app

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["method"] != "PUT"  # some never ask for theirs
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        said = {name: value for name, value in scope.items() if name != "state"}
        self.seen.append((sorted(said.items()), body))
        answer = {"type": "http.response.start", "status": 200,
                  "headers": [(b"content-length", b"%d" % len(body))]}
        await send(answer)
        await send({"type": "http.response.body", "body": body})

    def fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note a failure of an endpoint's; another is told as ever."""
        if isinstance(context.get("exception"), ZeroDivisionError):
            self.seen.append(context["request"])
        else:
            loop.default_exception_handler(context)

    def _state(self, lane: Any) -> Any:
        """What it is now; nothing is read from one that is closed.

        How many of a read's requests begin before a full buffer is known depends on what is held.
        """
        return None if self.wire.has_filled else (
            str(lane.state), lane.ready and self.wire.is_open, lane.conn.requests, lane.conn.state)

    async def outcome(self, draw: random.Random) -> list[Any]:
        """What comes of the next stream: what endpoints saw, what was sent, what was counted."""
        server = draw.choice(self.all)
        self.seen.clear()
        lane, wire = server.stream(), Wire()
        self.wire, wire.lane = wire, lane
        before = server.statistics()
        lane.connection_made(wire)
        stream = reads(draw)
        turns = draw.choice((0, 0, 8))
        states = []
        for data in stream:
            if wire.is_open:
                lane.data_received(data)
                for _ in range(turns):
                    await asyncio.sleep(0)
                states.append(self._state(lane))
        for _ in range(12):
            await asyncio.sleep(0)
        after = server.statistics()
        states.append(self._state(lane))
        was_open = wire.is_open
        is_lost = wire.lane is None  # then nobody tells what of the last answers was written
        wire.lose()
        await asyncio.sleep(0)
        counted = [after[name] - before[name] for name in ("requests", "refused")]
        sent = b"" if is_lost else re.sub(rb"[Dd]ate: [^\r]*", b"", bytes(wire.sent))
        return [stream, list(self.seen), sent, states, counted, was_open]


async def outcomes(seed: int, streams: int) -> Iterator[list[Any]]:
    """What comes of each stream."""
    servers = Servers()
    asyncio.get_running_loop().set_exception_handler(servers.fail)
    for server in servers.all:
        await server.start()
    draw = random.Random(seed)
    found = [await servers.outcome(draw) for _ in range(streams)]
    for server in servers.all:
        await server.stop()
    return iter(found)


def child(seed: int, streams: int) -> None:
    """Tell what comes of each batch, or of each stream when there is only one."""
    print(compiled is not None, flush=True)
    for batch in range(seed, seed + max(1, streams // BATCH)):
        found = list(asyncio.run(outcomes(batch, min(streams, BATCH))))
        print(hashlib.sha256(repr(found).encode()).hexdigest(), flush=True)


def start(seed: int, streams: int, pure: bool) -> subprocess.Popen[str]:
    environment = {**os.environ, "APIHOUR_NO_EXTENSIONS": "1" if pure else "0"}
    return subprocess.Popen(
        [sys.executable, "-m", __name__ if __name__ != "__main__" else __spec__.name,
         "--child", "--streams", str(streams), "--seed", str(seed)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def differing(seed: int, streams: int) -> int | None:
    """The seed of the first batch of which something else came; None when there is none.

    Raises RuntimeError when the two processes are of one kind, or one ends too early.
    """
    with start(seed, streams, False) as fast, start(seed, streams, True) as pure:
        assert fast.stdout is not None and pure.stdout is not None
        kinds = fast.stdout.readline().strip(), pure.stdout.readline().strip()
        if kinds != ("True", "False"):
            fast.kill(), pure.kill()
            raise RuntimeError(f"with the extension and without: {kinds}; expected True, False")
        for batch in range(seed, seed + max(1, streams // BATCH)):
            one, other = fast.stdout.readline(), pure.stdout.readline()
            if not one or one != other:
                fast.kill(), pure.kill()
                return batch
    return None


def show(seed: int) -> None:
    """Print the first stream of a batch of which something else comes."""
    texts = []
    for pure in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--show", "--seed", str(seed)],
            cwd=ROOT, env={**os.environ, "APIHOUR_NO_EXTENSIONS": pure},
            capture_output=True, text=True, check=False)
        texts.append(done.stdout.splitlines())
        if done.returncode:
            print(done.stderr[-3000:])
    for one, other in zip(*texts, strict=False):
        if one != other:
            print(f"with:    {one}\nwithout: {other}")
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--show", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    if found.child:
        child(found.seed, found.streams)
        return 0
    if found.show:
        for each in asyncio.run(outcomes(found.seed, BATCH)):
            print(each)
        return 0
    differs = differing(found.seed, found.streams)
    if differs is not None:
        print(f"batch {differs} differs")
        show(differs)
        return 1
    print(f"{found.streams} streams, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
