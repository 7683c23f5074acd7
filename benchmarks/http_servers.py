"""The servers that ``http.py`` compares: how each is installed, started and told apart.

Rules:

- Each peer runs in its fastest recommended form, one worker, no access log.
- All of Python's run on one interpreter, in a virtual environment made for them: what is
  measured is the server, and not the build of Python.
- ``peers/`` holds their applications, which all answer the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from _bench import HERE, ROOT, SERVER_CPU, Server, free_port
from http_goals import DIRECT, LIMIT

PEERS = HERE / "peers"
OURS = "standard,asgi,validation"


@dataclass(frozen=True)
class Start:
    """What a command is made from."""

    bin: Path
    port: int
    case: str
    workers: int = 1
    scratch: Path = Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Peer:
    """One server: `kind` is ours, python, native (no Python in it) or limit."""

    name: str
    command: Callable[[Start], list[str | Path]]
    packages: tuple[str, ...] = ()
    kind: str = "python"
    lacks: frozenset[str] = frozenset()
    """Cases that it has no means for; a bare protocol has no router."""
    per_case: bool = False
    """Whether it is started anew, in another form, for each case."""
    environment: Callable[[Start], dict[str, str]] = field(default=lambda start: {})
    only: frozenset[str] = frozenset()
    """The cases that it is there for; empty: all of HTTP's."""

    spins: bool = False
    """Whether it uses a CPU while nobody asks it anything."""

    def takes(self, case: str) -> bool:
        """Whether it is measured in `case`."""
        if case == "accept":
            return case in self.only or self.kind == "limit"
        return not self.only and case not in self.lacks


NO_ROUTER = frozenset({"routes"})


def apihour(container: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [
        start.bin / "apihour", f"apihour_app:{container}", "-b", f"http=127.0.0.1:{start.port}",
        "--workers", str(start.workers), "--no-console",
    ]


def uvicorn(module: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [
        start.bin / "uvicorn", f"{module}:app", "--port", str(start.port), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--log-level", "warning",
        "--workers", str(start.workers),
    ]


def granian(interface: str, module: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [
        start.bin / "granian", "--interface", interface, "--port", str(start.port),
        "--workers", str(start.workers), "--runtime-mode", "st", "--loop", "uvloop", "--http",
        "1", "--no-ws", "--backlog", "2048", "--log-level", "warning", f"{module}:app",
    ]


def gunicorn(target: str, *options: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [
        start.bin / "gunicorn", target, "-b", f"127.0.0.1:{start.port}", "-w",
        str(start.workers), "--no-control-socket", "--log-level", "warning", *options,
    ]


# One thread a connection, which is faster here than sync, gevent and fewer threads.
THREADS = ("-k", "gthread", "--threads", "64")


def script(name: str, *words: str) -> Callable[[Start], list[str | Path]]:
    return lambda start: [start.bin / "python", name, str(start.port), *words]


def nginx(start: Start) -> list[str | Path]:
    """nginx's own answers; its 64 kB come from a file, as a directive cannot be that long."""
    from peers.common import LARGE, MESSAGE_JSON

    where = start.scratch / f"nginx-{start.port}"
    where.mkdir()
    (where / "large").write_text(LARGE)
    (where / "nginx.conf").write_text(f"""
        daemon off; worker_processes {start.workers}; pid {where}/pid; error_log stderr crit;
        {'user root;' if os.geteuid() == 0 else ''}
        events {{ worker_connections 2048; }}
        http {{
            access_log off; keepalive_requests 1000000000; charset utf-8; sendfile on;
            open_file_cache max=16; client_body_temp_path {where}/body;
            proxy_temp_path {where}/proxy; fastcgi_temp_path {where}/fastcgi;
            uwsgi_temp_path {where}/uwsgi; scgi_temp_path {where}/scgi;
            server {{
                listen 127.0.0.1:{start.port} backlog=2048;
                location = /json {{
                    default_type application/json; charset off;
                    return 200 '{MESSAGE_JSON.decode()}';
                }}
                location = /large {{ default_type text/plain; root {where}; }}
            }}
        }}
    """)
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", where / "nginx.conf"]


def ours() -> Iterator[Peer]:
    """apihour: both forms of endpoint and both hosted applications, each with both parsers."""
    forms = {
        DIRECT["async def"]: "Container", DIRECT["def"]: "Inline",
        "apihour + aiohttp app": "HostedAiohttp", "apihour + Starlette": "HostedStarlette",
    }
    for name, container in forms.items():
        yield Peer(name, apihour(container), (), "ours")
    for name, container in forms.items():
        yield Peer(f"{name}, aiohttp's parser", apihour(container), (), "ours",
                   lacks=frozenset({"routes", "large", "same"}),
                   environment=lambda start: {"PARSER": "aiohttp"})
    yield Peer("apihour + Flask", apihour("HostedFlask"), ("flask", "orjson"), "ours")
    yield Peer("apihour, raw TCP", apihour("Raw"), (), "ours", only=frozenset({"accept"}))


SERVERS = [
    Peer(
        LIMIT, lambda start: [start.bin / "python", "limit_app.py", str(start.port), start.case],
        ("uvloop",), "limit", frozenset({"post", "routes"}), per_case=True,
    ),
    Peer("nginx return 200", nginx, (), "native", frozenset({"post", "routes"})),
    *ours(),
    Peer("aiohttp app, gunicorn's worker", gunicorn(
        "aiohttp_app:make", "-k", "aiohttp.GunicornUVLoopWebWorker"), ("aiohttp", "gunicorn")),
    Peer("uvicorn, bare ASGI", uvicorn("asgi_app"), ("uvicorn", "httptools"), lacks=NO_ROUTER),
    Peer("uvicorn + Starlette", uvicorn("starlette_app"), ("uvicorn", "starlette")),
    Peer("FastAPI", uvicorn("fastapi_app"), ("uvicorn", "fastapi")),
    Peer("BlackSheep", uvicorn("blacksheep_app"), ("uvicorn", "blacksheep")),
    Peer("Falcon", uvicorn("falcon_app"), ("uvicorn", "falcon")),
    Peer("granian RSGI", granian("rsgi", "rsgi_app"), ("granian[uvloop]",), lacks=NO_ROUTER),
    Peer("granian ASGI", granian("asginl", "asgi_app"), ("granian[uvloop]",), lacks=NO_ROUTER),
    # 0.6 ends with a segmentation fault at the third request with "Connection: close".
    Peer("fastpysgi, bare ASGI", script("fastpysgi_app.py"), ("fastpysgi",),
         lacks=NO_ROUTER | {"close"}, spins=True),
    Peer("socketify", script("socketify_app.py"), ("socketify", "cffi"), spins=True),
    Peer("Sanic", script("sanic_app.py"), ("sanic",)),
    Peer("Robyn", lambda start: [
        start.bin / "python", "robyn_app.py", "--processes", str(start.workers), "--workers",
        "1", "--log-level", "WARN",
    ], ("robyn",), environment=lambda start: {"ROBYN_PORT": str(start.port)}),
    Peer("gunicorn ASGI worker", gunicorn("asgi_app:app", "-k", "asgi"),
         ("gunicorn", "gunicorn_h1c"), lacks=NO_ROUTER),
    Peer("Flask on gunicorn", gunicorn("flask_app:app", *THREADS),
         ("flask", "gunicorn")),
    Peer("Django on gunicorn", gunicorn("django_app:app", *THREADS),
         ("django", "gunicorn")),
]


# The interpreter and its environment


def environment(venv: Path, interpreter: str, peers: list[Peer]) -> dict[str, str]:
    """Make `venv` on demand; returns why a peer cannot be installed, by its name.

    Raises CalledProcessError when the project itself cannot be installed there.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"making {venv} with {interpreter}", file=sys.stderr, flush=True)
        subprocess.run([interpreter, "-m", "venv", venv], check=True)
        # pip installs setuptools only where it is asked to; an editable install needs it.
        subprocess.run([*pip(venv), "--upgrade", "pip", "setuptools"], check=True)
    # Always: what is measured is this checkout, and its extension as its sources are now.
    subprocess.run([*pip(venv), "-e", f"{ROOT}[{OURS}]", "orjson"], check=True)
    missing: dict[str, str] = {}
    is_new = False
    for peer in peers:
        if peer.name == "nginx return 200" and not Path(nginx_path()).exists():
            missing[peer.name] = "not installed (apt-get install nginx-light)"
        stamp = venv / f".{'-'.join(peer.packages).replace('/', '-')}"
        if not peer.packages or stamp.exists():
            continue
        done = subprocess.run(
            [*pip(venv), *peer.packages], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            missing[peer.name] = (lines or ["pip failed"])[-1][:100]
        else:
            stamp.touch()
            is_new = True
    if is_new:  # Robyn holds uvloop back, for all
        subprocess.run([*pip(venv), "--upgrade", "uvloop"], check=True)
    return missing


def pip(venv: Path) -> list[str | Path]:
    return [venv / "bin" / "python", "-m", "pip", "install", "--quiet",
            "--disable-pip-version-check"]


def nginx_path() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


_ABOUT = """
import sys, sysconfig
from importlib.metadata import version, PackageNotFoundError
names = sys.argv[1].split()
found = []
for name in names:
    try:
        found.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        pass
args = sysconfig.get_config_var("CONFIG_ARGS") or ""
flags = [flag for flag in ("--enable-optimizations", "--with-lto") if flag in args]
import time
def loop():
    began = time.perf_counter()
    kept = {}
    for number in range(300000):
        kept[number & 1023] = str(number).encode()
    return time.perf_counter() - began
print(f"CPython {sys.version.split()[0]} at {sys.base_prefix}, "
      f"CONFIG_ARGS {' '.join(flags) or 'without --enable-optimizations'}, "
      f"{'shared' if 'libpython' in open('/proc/self/maps').read() else 'static'} libpython, "
      f"{min(loop() for _ in range(5)) / 0.0003:.0f} ns a turn of a fixed loop")
print(", ".join(found))
"""


def about(venv: Path, peers: list[Peer]) -> list[str]:
    """How the interpreter was built and how fast it is, and the versions compared.

    Debian builds twice and its CONFIG_ARGS are those of the build that was not optimised, so
    a fixed loop is timed beside them: about 120 ns where the build is optimised, twice that
    where it is not.
    """
    names = {package.partition("[")[0] for peer in peers for package in peer.packages}
    names |= {"uvloop", "httptools", "ujson", "orjson", "msgspec"}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", _ABOUT, " ".join(sorted(names))],
        capture_output=True, text=True, check=True,
    )
    return done.stdout.splitlines()


# Running them


@contextlib.contextmanager
def running(
    peer: Peer, venv: Path, case: str, *, workers: int = 1, cpu: int | None = SERVER_CPU,
    extra: dict[str, str] | None = None,
) -> Iterator[Server]:
    """`peer`'s server, accepting. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        start = Start(venv / "bin", free_port(), case, workers, Path(scratch))
        with Server(
            peer.command(start), cpu=cpu, cwd=PEERS, port=start.port,
            environment={**peer.environment(start), **(extra or {})},
        ) as server:
            yield server


@contextlib.contextmanager
def awake(peer: Peer, server: Server) -> Iterator[None]:
    """One that spins is stopped outside of this, as others are measured on the same CPU."""
    if peer.spins:
        server.process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        if peer.spins:
            server.process.send_signal(signal.SIGSTOP)
