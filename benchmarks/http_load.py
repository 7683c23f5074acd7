"""The cases of ``http.py``: what is asked, what must be answered, and wrk as the load.

Rules:

- A server is measured in a case only after it has given exactly the expected answer.
- wrk has a CPU of its own; its busy time is kept beside each figure, because where it is
  the one that saturates, only the server's CPU time per request tells servers apart.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from _bench import LOAD_CPU, Server, cpu_seconds, pinned
from peers.common import LARGE, MESSAGE_JSON, RESOURCES, TEXT

JSON, PLAIN = "application/json", "text/plain"
USER = b'{"name":"Ada Lovelace","email":"ada@example.org","age":36,"tags":["math","engine"]}'
BAD_USER = b'{"name":"Ada Lovelace","email":"ada@example.org","age":"old","tags":["math"]}'
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                  "Chrome/131.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
              "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
    "Accept-Language": "en-GB,en;q=0.9,fr;q=0.8,nl;q=0.7", "Accept-Encoding": "gzip, deflate, br",
    "Cache-Control": "max-age=0", "Upgrade-Insecure-Requests": "1", "DNT": "1",
    "Sec-Ch-Ua": '"Chromium";v="131", "Not_A Brand";v="24"', "Sec-Ch-Ua-Mobile": "?0",
    "Sec-Ch-Ua-Platform": '"Linux"', "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin", "Sec-Fetch-User": "?1",
    "Referer": "https://www.example.org/products/shoes?page=2&sort=price",
    "Cookie": "session=3f1d9a7e5b2c4860a1d3f5e7; theme=dark; consent=" + "y" * 60,
}


@dataclass(frozen=True)
class Check:
    """A request, and what must come back; `status` 400 stands for any refusal of input."""

    path: str
    body: bytes
    media: str
    method: str = "GET"
    sent: bytes = b""
    status: int = 200


@dataclass(frozen=True)
class Case:
    """One thing that is measured; `lua` is what wrk runs to make its requests."""

    name: str
    title: str
    path: str
    checks: tuple[Check, ...]
    lua: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    connections: int = 64
    rounds: int = 5
    seconds: float = 0.5


_JSON = Check("/json", MESSAGE_JSON, JSON)
_TEXT = Check("/plaintext", TEXT.encode(), PLAIN)
_ROUTES = [f"/{name}/{number + 10}/items/book" for number, name in enumerate(RESOURCES)]
_POST = f"""
wrk.method = "POST"
wrk.body = '{USER.decode()}'
wrk.headers["Content-Type"] = "application/json"
"""
_PIPELINED = """
init = function(args)
  local one, all = wrk.format(), {}
  for i = 1, 16 do all[i] = one end
  sixteen = table.concat(all)
end
request = function() return sixteen end
"""
_ROTATE = """
local paths, all, at = {PATHS}, {}, 0
init = function(args) for i, path in ipairs(paths) do all[i] = wrk.format("GET", path) end end
request = function() at = at % #all + 1; return all[at] end
""".replace("PATHS", ", ".join(f'"{path}"' for path in _ROUTES))

CASES = [
    Case("json", "JSON GET", "/json", (_JSON,), seconds=1.5),
    Case("plaintext", "plaintext", "/plaintext", (_TEXT,)),
    Case("pipelined", "plaintext, pipelined x16", "/plaintext", (_TEXT,), _PIPELINED),
    Case("post", "JSON POST, validated", "/users", (
        Check("/users", b'{"name":"Ada Lovelace","age":36,"tags":2}', JSON, "POST", USER),
        Check("/users", b"", "", "POST", BAD_USER, 400),
    ), _POST),
    Case("routes", "20 routes with parameters", "/", tuple(
        Check(path, b'{"id":%d,"item":"book"}' % (number + 10), JSON)
        for number, path in enumerate(_ROUTES) if number in (0, len(_ROUTES) - 1)
    ), _ROTATE),
    Case("headers", "1 kB of headers", "/json", (_JSON,), headers=BROWSER),
    Case("large", "64 kB response", "/large", (Check("/large", LARGE.encode(), PLAIN),),
         connections=16),
    Case("close", "keep-alive off", "/json", (_JSON,), headers={"Connection": "close"}),
]
CROWD = Case("crowd", "400 connections, all workers", "/json", (_JSON,), connections=400,
             rounds=1, seconds=30.0)

_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nfigures {"requests": %d, "micros": %d, "p50": %d, "p99": %d, "status": %d, '
    .. '"socket": %d, "timeout": %d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write, errors.timeout))
end
"""


# What must be answered


class WrongAnswer(Exception):
    """A server's answer differs from the case's; its text says how."""


def verify(case: Case, port: int) -> None:
    """Raise WrongAnswer or OSError unless the server answers each check of `case`."""
    for check in case.checks:
        status, media, body = ask(port, check, case.headers)
        shown = f"{check.method} {check.path}: {status} {media} {body[:60]!r}"
        if check.status == 400:
            if status not in (400, 422):
                raise WrongAnswer(f"{shown}: expected 400 or 422 for a bad body")
        elif (status, media, body) != (check.status, check.media, check.body):
            raise WrongAnswer(f"{shown}: expected {check.status} {check.media} {check.body[:60]!r}")


def ask(port: int, check: Check, headers: dict[str, str]) -> tuple[int, str, bytes]:
    """Status, media type without parameters, and body of one request of its own connection."""
    fields = {"Host": f"127.0.0.1:{port}", **headers, "Connection": "close"}
    if check.sent:
        fields |= {"Content-Type": JSON, "Content-Length": str(len(check.sent))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(f"{check.method} {check.path} HTTP/1.1\r\n{lines}\r\n".encode() + check.sent)
        return read_answer(sock)


def read_answer(sock: socket.socket) -> tuple[int, str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in
              (line.partition(":") for line in lines)}
    media = fields.get("content-type", "").partition(";")[0].strip().lower()
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(sock)
        body = _unchunked(body)
    else:
        while len(body) < int(fields.get("content-length", "0")):
            body += _more(sock)
    return int(first.split()[1]), media, body


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise WrongAnswer("closed before its answer was complete")
    return data


def _unchunked(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            return body
        body, data = body + data[:length], data[length + 2:]


# Load


@dataclass(frozen=True)
class Sample:
    """One run: answers a second, CPU time of server an answer (µs), latency (ms), wrk's CPU."""

    rate: float
    cpu: float
    p50: float
    p99: float
    load: float
    requests: int


def wrk(
    case: Case, port: int, seconds: float, *, cpu: int | None = LOAD_CPU, threads: int = 1
) -> dict[str, float]:
    """wrk's own figures of `seconds`, a fraction being done by interrupting it."""
    headers = [word for name, value in case.headers.items() for word in ("-H", f"{name}: {value}")]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(case.lua + _DONE)
        script.flush()
        process = subprocess.Popen(
            [*pinned(cpu), shutil.which("wrk") or "wrk", f"-t{threads}", f"-c{case.connections}",
             f"-d{int(seconds) + 2}s", "--timeout", "5s", "-s", script.name, *headers,
             f"http://127.0.0.1:{port}{case.path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()
            process.wait()
    for line in said.splitlines():
        if line.startswith("figures "):
            figures: dict[str, float] = json.loads(line.removeprefix("figures "))
            return figures
    raise RuntimeError(f"wrk: {said[-300:]}")


def measure(
    case: Case, server: Server, seconds: float, *, cpu: int | None = LOAD_CPU, threads: int = 1
) -> Sample:
    """Load `server` with `case`. Raises RuntimeError when answers are errors, or none come."""
    before, load_before = cpu_seconds(server.pid), _children()
    figures = wrk(case, server.port, seconds, cpu=cpu, threads=threads)
    used, load = cpu_seconds(server.pid) - before, _children() - load_before
    requests, elapsed = int(figures["requests"]), figures["micros"] / 1e6
    if not requests:
        raise RuntimeError("no answer at all")
    # A server that closes without having said so costs wrk a failed read for each answer.
    closing = case.headers.get("Connection") == "close"
    bad = int(figures["status"] + (0 if closing else figures["socket"]))
    # What is under way when wrk stops may count as a broken read.
    if bad > case.connections + requests // 1000:
        raise RuntimeError(f"{bad} of {requests} answers were errors")
    return Sample(
        requests / elapsed, used / requests * 1e6, figures["p50"] / 1000, figures["p99"] / 1000,
        load / elapsed, requests,
    )


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def wrk_missing() -> str:
    """What to do when wrk is not there, else an empty text."""
    return "" if shutil.which("wrk") else "wrk is not installed: apt-get install wrk"

