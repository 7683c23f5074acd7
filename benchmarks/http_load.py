"""The cases of ``http.py``, what must be answered, and wrk as the load.

Rules:

- A server is measured in a case only after it has given exactly the expected answers.
- The load costs little: wrk sends requests that were made before (``http_requests.py``), one
  after the other. It has a CPU of its own, and its busy time is kept beside each figure:
  where it is the one that saturates, only the server's CPU time per request tells.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _bench import HERE, LOAD_CPU, Server, cpu_seconds, pinned, python
from http_requests import Sent, distinct, refused

CHECKED = 20  # requests of a case that a server must answer before it is measured


@dataclass(frozen=True)
class Case:
    """One thing that is measured; `name` is the kind of its requests."""

    name: str
    title: str
    connections: int = 64
    rounds: int = 9
    seconds: float = 0.5


ACCEPT = "accept"
CASES = [
    Case("query", "(a) JSON GET, own query and request id"),
    Case("browser", "(b) JSON GET, a browser's ten headers, own cookie"),
    Case("post", "(c) JSON POST, own body, validated"),
    Case("routes", "(d) 20 routes, own parameters"),
    Case("close", "as (a), keep-alive off"),
    Case(ACCEPT, "accepting: a TCP connection that brings one byte", 1),
    Case("large", "64 kB response, own query and request id", 16, 5),
    Case("same", "the same bytes again and again, as no clients send them", rounds=5),
]

_LUA = """
local all, at = {REQUESTS}, 0
local count = #all
request = function() at = at % count + 1; return all[at] end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nfigures {"requests": %d, "micros": %d, "p50": %d, "p99": %d, "status": %d, '
    .. '"socket": %d}\\n', summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status, errors.connect + errors.read + errors.write))
end
"""


# What must be answered


class WrongAnswer(Exception):
    """A server's answer differs from the case's; its text says how."""


def verify(case: Case, port: int) -> None:
    """Raise WrongAnswer or OSError unless the server answers the case's requests rightly."""
    if case.name == ACCEPT:
        return  # its load checks what comes back
    for sent in distinct(case.name)[:CHECKED] + [refused()] * (case.name == "post"):
        status, media, body = ask(port, sent.raw)
        shown = f"{sent.raw[:60]!r}: {status} {media} {body[:60]!r}"
        if sent.status == 400:
            if status not in (400, 422):
                raise WrongAnswer(f"{shown}: expected 400 or 422 for a bad body")
        elif (status, media, body) != (sent.status, sent.media, sent.body):
            raise WrongAnswer(f"{shown}: expected {sent.status} {sent.media} {sent.body[:60]!r}")


def ask(port: int, request: bytes) -> tuple[int, str, bytes]:
    """Status, media type without parameters, and body of one request of its own connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(request)
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


def measure(case: Case, server: Server, seconds: float) -> Sample:
    """Load `server` with `case`. Raises RuntimeError when answers are errors, or none come."""
    before, load_before = cpu_seconds(server.pid), _children()
    figures = (connect if case.name == ACCEPT else wrk)(case, server.port, seconds)
    used, load = cpu_seconds(server.pid) - before, _children() - load_before
    requests, elapsed = int(figures["requests"]), figures["micros"] / 1e6
    if not requests:
        raise RuntimeError("no answer at all")
    # A server that closes without having said so costs wrk a failed read for each answer.
    bad = int(figures["status"] + (0 if case.name == "close" else figures["socket"]))
    # What is under way when wrk stops may count as a broken read.
    if bad > case.connections + requests // 1000:
        raise RuntimeError(f"{bad} of {requests} answers were errors")
    return Sample(
        requests / elapsed, used / requests * 1e6, figures["p50"] / 1000, figures["p99"] / 1000,
        load / elapsed, requests,
    )


def connect(case: Case, port: int, seconds: float) -> dict[str, float]:
    """Connections one after the other, each with a byte that must come back."""
    rate = float(subprocess.run(
        [*pinned(LOAD_CPU), *python(HERE / "load" / "connect.py", str(port), str(seconds))],
        check=True, capture_output=True, text=True, timeout=120).stdout)
    middle = 1e6 / rate
    return {"requests": rate * seconds, "micros": seconds * 1e6, "p50": middle, "p99": middle,
            "status": 0, "socket": 0}


def wrk(case: Case, port: int, seconds: float) -> dict[str, float]:
    """wrk's own figures of `seconds`, a fraction being done by interrupting it."""
    with script(case.name) as lua, subprocess.Popen(
        [*pinned(LOAD_CPU), shutil.which("wrk") or "wrk", "-t1", f"-c{case.connections}",
         f"-d{int(seconds) + 5}s", "--timeout", "5s", "-s", lua, f"http://127.0.0.1:{port}/"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:
        try:
            wait_interruptible(process)
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()
    for line in said.splitlines():
        if line.startswith("figures "):
            figures: dict[str, float] = json.loads(line.removeprefix("figures "))
            return figures
    raise RuntimeError(f"wrk: {said[-300:]}")


def wait_interruptible(process: subprocess.Popen[str]) -> None:
    """Return when the process has a handler for SIGINT, or has ended: wrk's load runs then."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> signal.SIGINT - 1 & 1:
            return
        time.sleep(0.001)


@contextlib.contextmanager
def script(kind: str) -> Iterator[str]:
    """A file of what wrk runs: the requests of `kind`, sent in turn."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(lua(kind))
        file.flush()
        yield file.name


@functools.cache
def lua(kind: str) -> str:
    return _LUA.replace("REQUESTS", ",\n".join(quoted(sent) for sent in distinct(kind)))


def quoted(sent: Sent) -> str:
    """The request as Lua writes a string, which for printable ASCII is as JSON does."""
    text = sent.raw.decode("ascii")
    if not text.replace("\r\n", "").isprintable():
        raise ValueError(f"{text!r}: expected printable ASCII")
    return json.dumps(text)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def wrk_missing() -> str:
    """What to do when wrk is not there, else an empty text."""
    return "" if shutil.which("wrk") else "wrk is not installed: apt-get install wrk"
