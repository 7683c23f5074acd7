"""HttpArena's profiles on one core: apihour beside fastpysgi, uvicorn, granian, FastAPI and Flask.

How to run, some twenty minutes, nothing else running (wrk is needed: apt-get install wrk)::

    python benchmarks/arena.py [--venv DIR] [--profiles json,crud] [--servers apihour,granian]

A server is measured in a profile when the verifier of examples/httparena has passed it there. The
requests are the profile's, in turn; each server has one worker on CPU 1, and 8 connections to the
database, which is that of DATABASE_URL or one that is started for this. Rounds are interleaved;
printed are medians: answers a second, the server's CPU time an answer (the database's is not in
it), and whose is least. The load is smaller than the arena's: 64 connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _bench import LOAD_CPU, ROOT, Server, cpu_seconds, interpreter, pinned
from agents import Figures, path_table, read
from http_servers import THREADS, Peer, Start, about, awake, environment, granian, gunicorn, running
from http_servers import uvicorn as on_uvicorn
from peer_options import chosen_peers, peer_arguments, with_a_database

CONNECTIONS = 64
OURS = "apihour"
EXAMPLE = ROOT / "examples" / "httparena"
ROWS = 20_000
HOST = "Host: 127.0.0.1"


# The load


@dataclass(frozen=True)
class Profile:
    """`requests` are sent in turn, as Lua writes them; `steps` of the verifier come before."""

    steps: tuple[str, ...]
    requests: Callable[[], list[str]]


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


def static() -> list[str]:
    sys.path.append(str(EXAMPLE))
    from data import OTHERS, TEXTS

    return [lua(get(f"/static/{name}", "Accept-Encoding: br;q=1, gzip;q=0.8"))
            for name in (*TEXTS, *OTHERS)]


def async_db() -> list[str]:
    return [lua(get(f"/async-db?min=10&max=50&limit={limit}")) for limit in (5, 10, 20, 35, 50)]


def crud() -> list[str]:
    """Of 20: 15 read, 3 change, one lists, one creates; a few items are asked for often."""
    changed = '{"name":"Changed","price":30,"quantity":5}'
    created = '{{"id":{0},"name":"New","category":"test","price":25,"quantity":10}}'
    found = []
    for turn in range(20):
        found += [lua(get(f"/crud/items/{1 + (turn * 151 + n * 37) % 1000}")) for n in range(15)]
        found += [lua(send("PUT", f"/crud/items/{1 + (turn * 97 + n * 53) % 1000}", changed))
                  for n in range(3)]
        found += [lua(get(f"/crud/items?category=office&page={1 + turn % 10}")),
                  lua(send("POST", "/crud/items", created.format(100_001 + turn)))]
    return found


def api() -> list[str]:
    return [*[lua(get("/baseline11?a=1&b=2"))] * 3, *json(), *async_db()[:2]]


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
    "api-4": Profile(("verify_api",), api),
}
_LUA = """
local requests = {REQUESTS}
local turn = 0
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


@contextlib.contextmanager
def script(profile: Profile) -> Iterator[str]:
    """A file of what wrk runs."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(_LUA.replace("REQUESTS", ",\n".join(profile.requests())))
        file.flush()
        yield file.name


def load(server: Server, profile: Profile, seconds: float, into: Figures) -> None:
    """One round. Raises RuntimeError when an answer fails, or none comes."""
    before = cpu_seconds(server.pid)
    with script(profile) as lua_file:
        said = subprocess.run(
            [*pinned(LOAD_CPU), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency",
             "--timeout", "10s", "-s", lua_file, f"http://127.0.0.1:{server.port}/"],
            capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    used = cpu_seconds(server.pid) - before
    requests, rate, p99 = read(said)
    into.rates.append(rate)
    into.costs.append(used / requests * 1e6)
    into.p99.append(p99)


# The servers


def ours(start: Start) -> list[str | Path]:
    return [start.bin / "apihour", "httparena:Container", "-b", f"http=127.0.0.1:{start.port}",
            "--workers", "1", "--no-console", "--chdir", EXAMPLE]


DRIVERS = ("asyncpg", "orjson", "ujson")
SERVERS = [
    Peer(OURS, ours, ("asyncpg", "brotli"), "ours"),
    Peer("fastpysgi", lambda start: [
        start.bin / "python", "arena_fastpysgi.py", str(start.port)], ("fastpysgi", *DRIVERS),
        spins=True),
    Peer("uvicorn", on_uvicorn("arena_asgi"), ("uvicorn", "httptools", *DRIVERS)),
    Peer("granian", granian("asginl", "arena_asgi"), ("granian[uvloop]", *DRIVERS)),
    Peer("FastAPI", on_uvicorn("arena_fastapi"), ("fastapi", "uvicorn", "httptools", *DRIVERS)),
    Peer("Flask", gunicorn("arena_flask:app", *THREADS),
         ("flask", "gunicorn", "flask-compress", *DRIVERS)),
]


def verified(profile: Profile, port: int) -> str:
    """Empty, or the first thing that the verifier finds wrong."""
    sys.path.append(str(EXAMPLE))
    from verify import Verifier

    verifier = Verifier(f"127.0.0.1:{port}")
    for step in profile.steps:
        try:
            getattr(verifier, step)()
        except Exception as error:
            return f"{step}: {error!r}"[:120]
    return verifier.failed[0][:120] if verifier.failed else ""


def measure(
    name: str, servers: dict[str, tuple[Peer, Server]], rounds: int, seconds: float
) -> dict[str, Figures]:
    """One profile on every server that does it rightly, in rounds whose order turns."""
    profile, found = PROFILES[name], {}
    for who, (peer, server) in servers.items():
        with awake(peer, server):
            found[who] = Figures(failure=verified(profile, server.port))
    for number in range(-1, rounds):
        names = [who for who in servers if not found[who].failure]
        turn = number % max(1, len(names))
        for who in names[turn:] + names[:turn]:
            peer, server = servers[who]
            try:
                with awake(peer, server):
                    load(server, profile, seconds, Figures() if number < 0 else found[who])
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                found[who].failure = str(error)[:120]
    return found


# The command


def options() -> argparse.Namespace:
    parser = peer_arguments(__doc__, 5, 3.0)
    parser.add_argument("--profiles", default="", help=f"only these of {', '.join(PROFILES)}")
    return parser.parse_args()


def prepare(directory: Path) -> dict[str, str]:
    """Make what is served; returns what the servers' environments have of it."""
    sys.path.append(str(EXAMPLE))
    import data

    data.make_files(directory)
    asyncio.run(data.make_table(os.environ["DATABASE_URL"], ROWS))
    os.environ["DATA_DIR"] = str(directory)  # the verifier reads it when it is imported
    return {"DATA_DIR": str(directory), "DATABASE_MAX_CONN": "8", "PYTHONPATH": str(EXAMPLE)}


def chosen(found: argparse.Namespace) -> tuple[list[str], list[Peer]]:
    """The profiles and servers asked for; SystemExit names a bad one."""
    profiles = [name for name in found.profiles.split(",") if name] or list(PROFILES)
    for name in profiles:
        if name not in PROFILES:
            raise SystemExit(f"--profiles {name}: expected some of {', '.join(PROFILES)}")
    return profiles, chosen_peers(found.servers, SERVERS)


def is_up(one: tuple[Peer, Server] | None) -> bool:
    return one is not None and one[1].process.poll() is None


def main() -> None:
    found = options()
    profiles, peers = chosen(found)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    if not os.environ.get("DATABASE_URL"):
        with_a_database()
    missing = environment(found.venv, found.python, peers)
    print("\n".join([*about(found.venv, peers), f"here: {interpreter()}, wrk\n"]), flush=True)
    rounds, seconds = (1, 1.0) if found.quick else (found.rounds, found.seconds)
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        extra, servers = prepare(Path(place)), {}
        for name in profiles:
            for peer in peers:
                if peer.name in missing or is_up(servers.get(peer.name)):
                    continue  # one that ended in a profile is started again for the next
                try:
                    server = stack.enter_context(running(peer, found.venv, "", extra=extra))
                    servers[peer.name] = (peer, server)
                except RuntimeError as error:
                    missing[peer.name] = str(error)[-300:]
            print(path_table(name, measure(name, servers, rounds, seconds), OURS, CONNECTIONS),
                  flush=True)
    for who, reason in missing.items():
        print(f"{who}: {reason}")


if __name__ == "__main__":
    main()
