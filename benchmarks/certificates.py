"""Certificates swapped under load: how many requests and connections that cost.

How to run (a minute)::

    .venv/bin/python benchmarks/certificates.py [--swaps 100]

Two workers serve HTTPS. One load keeps its connections, one makes a new one for each request;
meanwhile the file of the certificate is replaced again and again, each time by another, and what
``certs reload`` does has it served; then once more without it, to be noticed. Every tenth is
broken, and must be refused. ``openssl`` makes the certificates.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import HERE, arguments, interpreter, table

from apihour.testing import Daemon, Load

PAIRS = 10


def issue(directory: Path) -> list[Path]:
    """Self-signed certificates, each with its key in one file."""
    found = []
    for number in range(PAIRS):
        path = directory / f"{number}.pem"
        key = directory / "key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "30", "-keyout", key, "-out", path, "-subj", f"/CN=n{number}"],
            check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + key.read_bytes())
        found.append(path)
    return found


def served(daemon: Daemon, context: ssl.SSLContext) -> bytes:
    with context.wrap_socket(daemon.connect("edge")) as sock:
        return sock.getpeercert(binary_form=True) or b""


def reload(daemon: Daemon) -> bool:
    """Whether every worker serves what the file holds now."""
    return not any(daemon.ask(worker, "reload-certs").rows for worker in daemon.workers("serving"))


def swapped(daemon: Daemon, path: Path, pairs: list[Path], swaps: int) -> tuple[int, int, int]:
    """How many were served, how many broken ones refused, and how often it was otherwise."""
    context = client()
    good = refused = wrong = 0
    for number in range(swaps):
        pair = pairs[number % PAIRS]
        new = path.with_name("new.pem")
        shutil.copy(pair, new)
        is_broken = number % 10 == 9
        if is_broken:
            new.write_bytes(new.read_bytes()[:500])
        before = served(daemon, context)
        new.rename(path)
        if is_broken:
            right = not reload(daemon) and served(daemon, context) == before
            refused += right
        else:
            right = reload(daemon) and served(daemon, context) == certificate(pair)
            good += right
        wrong += not right
    shutil.copy(pairs[3], path)
    daemon.wait(lambda: served(daemon, context) == certificate(pairs[3]), "it to be noticed")
    return good, refused, wrong


def certificate(path: Path) -> bytes:
    text = path.read_text()
    return ssl.PEM_cert_to_DER_cert(text[:text.index("-----BEGIN PRIVATE")])


def client() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--swaps", type=int, default=100)
    options = parser.parse_args()
    print(interpreter(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "served.pem"
        pairs = issue(Path(place))
        shutil.copy(pairs[0], path)
        with Daemon("mux_app:Container", "-b", "edge=127.0.0.1:0?tls", "-b", "raw=127.0.0.1:0",
                    "--certfile", str(path), cwd=HERE / "load", workers=2, console=True) as daemon:
            loads = [Load(kind, daemon.address("edge"), tls=client(), connections=2, path="/1")
                     for kind in ("keep-alive", "connection")]
            with loads[0], loads[1]:
                for load in loads:
                    load.wait_answers(10)
                good, refused, wrong = swapped(daemon, path, pairs, options.swaps)
    lost = sum(load.report.lost for load in loads)
    print(table(["swaps", "served", "refused", "wrong", "answers", "lost"], [
        [options.swaps, good, refused, wrong, sum(load.report.ok for load in loads), lost]]))
    sys.exit(1 if wrong or lost else 0)


if __name__ == "__main__":
    main()
