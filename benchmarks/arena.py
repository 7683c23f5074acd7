"""HttpArena's profiles on one core: apihour beside the arena's other Python entries, and granian.

Of the entries of April 2026 these are missing: pyronova, which PyPI's mirrors did not offer;
SlimeWeb, whose wheel is for the free-threaded CPython 3.14 alone; Bottle, which is on gunicorn as
Flask is, whose part is most of what both cost. Robyn has no compression, TLS or database there.

How to run, some twenty minutes, nothing else running (wrk is needed: apt-get install wrk)::

    python benchmarks/arena.py [--venv DIR] [--profiles json,crud] [--servers apihour,granian]

A server is measured in a profile when the verifier of examples/httparena has passed it there. The
requests are the profile's, in turn; each server has one worker on CPU 1, and 8 connections to the
database, which is that of DATABASE_URL or one that is started for this. Rounds are interleaved;
printed are medians: answers a second, the server's CPU time an answer (the database's is not in
it), and whose is least. The load is smaller than the arena's: 64 connections. In crud the others
cache in their one process; in crud-redis as several processes have to, in a Redis, whose CPU time
is not in theirs either; ours is the same in both.
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
from pathlib import Path

from _bench import HERE, LOAD_CPU, Server, cpu_seconds, interpreter, pinned
from agents import Figures, path_table, read
from arena_cache import REDIS, redis_beside
from arena_profiles import EXAMPLE, LUA, PROFILES, ROWS, Profile
from http_servers import (
    THREADS,
    Peer,
    Start,
    about,
    awake,
    environment,
    granian,
    gunicorn,
    running,
    script,
)
from http_servers import uvicorn as on_uvicorn
from peer_options import chosen_peers, peer_arguments, with_a_database

OURS = "apihour"


# The load


@contextlib.contextmanager
def requests_of(profile: Profile) -> Iterator[str]:
    """A file of what wrk runs."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(LUA.replace("REQUESTS", ",\n".join(profile.requests())))
        file.flush()
        yield file.name


def asking(profile: Profile, port: int, seconds: float, lua_file: str) -> list[str | Path]:
    """The command that does."""
    if profile.form == "ws":
        return [sys.executable, HERE / "load" / "ws_echo.py", str(port), str(profile.connections),
                str(seconds)]
    scheme = "https" if profile.form == "tls" else "http"
    return ["wrk", "-t1", f"-c{profile.connections}", f"-d{seconds:.0f}s", "--latency", "--timeout",
            "10s", "-s", lua_file, f"{scheme}://127.0.0.1:{port}/"]


def load(server: Server, profile: Profile, seconds: float, into: Figures) -> None:
    """One round. Raises RuntimeError when an answer fails, or none comes."""
    before = cpu_seconds(server.pid)
    with requests_of(profile) as lua_file:
        said = subprocess.run(
            [*pinned(LOAD_CPU), *asking(profile, server.port, seconds, lua_file)],
            capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    used = cpu_seconds(server.pid) - before
    requests, rate, p99 = read(said)
    into.rates.append(rate)
    into.costs.append(used / requests * 1e6)
    into.p99.append(p99)


# The servers


def certificate() -> tuple[str, str]:
    """Certificate and key of the TLS profile, which :func:`prepare` makes."""
    directory = os.environ["DATA_DIR"]
    return f"{directory}/server.crt", f"{directory}/server.key"


def with_tls(
    command: Callable[[Start], list[str | Path]], *options: str
) -> Callable[[Start], list[str | Path]]:
    """`command`, with these options before certificate and key where TLS is wanted."""
    def made(start: Start) -> list[str | Path]:
        words = command(start)
        if start.case == "tls":
            for option, path in zip(options, certificate(), strict=True):
                words += [option, path]
        return words

    return made


def ours(start: Start) -> list[str | Path]:
    place = f"http=127.0.0.1:{start.port}"
    if start.case == "tls":
        place += "?tls={}&key={}".format(*certificate())
    return [start.bin / "apihour", "httparena:Container", "-b", place, "--workers", "1",
            "--no-console", "--chdir", EXAMPLE]


def on_granian(start: Start) -> list[str | Path]:
    words = granian("asginl", "arena_asgi")(start)
    return [word for word in words if word != "--no-ws"] if start.case == "ws" else words


def fastpysgi(module: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [start.bin / "python", "arena_fastpysgi.py", module, str(start.port),
                          *(certificate() if start.case == "tls" else ())]


def robyn(start: Start) -> list[str | Path]:
    return [start.bin / "python", "arena_robyn.py", "--processes", "1", "--workers", "1",
            "--log-level", "WARN", "--disable-openapi"]


UVICORN = "--ssl-certfile", "--ssl-keyfile"
PSYCOPG = "psycopg[binary]"
DRIVERS = ("asyncpg", "orjson", "redis[hiredis]", "ujson")
SERVERS = [
    Peer(OURS, ours, ("asyncpg", "isal"), "ours"),
    Peer("fastpysgi", fastpysgi("arena_asgi"), ("fastpysgi", *DRIVERS), spins=True),
    Peer("fastpysgi WSGI", fastpysgi("arena_wsgi"), ("fastpysgi", PSYCOPG, *DRIVERS), spins=True),
    # Its build needs libev's headers: apt-get install libev-dev
    Peer("bjoern", script("arena_bjoern.py"), ("bjoern", PSYCOPG, *DRIVERS)),
    Peer("uvicorn", with_tls(on_uvicorn("arena_asgi"), *UVICORN),
         ("uvicorn", "httptools", "websockets", *DRIVERS)),
    Peer("granian", with_tls(on_granian, "--ssl-certificate", "--ssl-keyfile"),
         ("granian[uvloop]", *DRIVERS)),
    Peer("FastAPI", with_tls(on_uvicorn("arena_fastapi"), *UVICORN),
         ("fastapi", "uvicorn", "httptools", "websockets", *DRIVERS)),
    Peer("Robyn", robyn, ("robyn", "orjson"),
         environment=lambda start: {"ROBYN_PORT": str(start.port)}),
    Peer("Flask", with_tls(gunicorn("arena_flask:app", *THREADS), "--certfile", "--keyfile"),
         ("flask", "gunicorn", "flask-compress", *DRIVERS)),
]


def verified(profile: Profile, port: int) -> str:
    """Empty, or the first thing that the verifier finds wrong."""
    sys.path.append(str(EXAMPLE))
    from verify import Verifier

    verifier = Verifier(f"127.0.0.1:{port}", f"127.0.0.1:{port}")
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
    path, key = certificate()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", path],
        check=True, capture_output=True)
    return {"DATA_DIR": str(directory), "DATABASE_MAX_CONN": "8", "PYTHONPATH": str(EXAMPLE)}


def chosen(found: argparse.Namespace) -> tuple[list[str], list[Peer]]:
    """The profiles and servers asked for; SystemExit names a bad one."""
    profiles = [name for name in found.profiles.split(",") if name] or list(PROFILES)
    for name in profiles:
        if name not in PROFILES:
            raise SystemExit(f"--profiles {name}: expected some of {', '.join(PROFILES)}")
    return profiles, chosen_peers(found.servers, SERVERS)


class Servers:
    """Those that are up, of one form; started on demand, ended when another form is wanted."""

    def __init__(self, peers: list[Peer], venv: Path, extra: dict[str, str]) -> None:
        self.missing: dict[str, str] = {}
        self._peers, self._venv, self._extra = peers, venv, extra
        self._form = ""
        self._up: dict[str, tuple[Peer, Server]] = {}
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """End all."""
        self._stack.close()
        self._up.clear()

    def of(self, form: str) -> dict[str, tuple[Peer, Server]]:
        """All of that form; one that has ended is started again."""
        if form != self._form:
            self.close()
            self._form = form
        for peer in self._peers:
            one = self._up.get(peer.name)
            if peer.name in self.missing or (one is not None and one[1].process.poll() is None):
                continue
            try:
                extra = {**self._extra}
                if form == REDIS:
                    extra["REDIS_URL"] = self._stack.enter_context(redis_beside())
                server = self._stack.enter_context(
                    running(peer, self._venv, form, extra=extra))
                self._up[peer.name] = peer, server
            except RuntimeError as error:
                self._up.pop(peer.name, None)
                self.missing[peer.name] = str(error)[-300:]
        return self._up


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
    with tempfile.TemporaryDirectory() as place:
        servers = Servers([peer for peer in peers if peer.name not in missing], found.venv,
                          prepare(Path(place)))
        with contextlib.closing(servers):
            for name in profiles:
                figures = measure(name, servers.of(PROFILES[name].form), rounds, seconds)
                print(path_table(name, figures, OURS, PROFILES[name].connections), flush=True)
    for who, reason in {**missing, **servers.missing}.items():
        print(f"{who}: {reason}")


if __name__ == "__main__":
    main()
