"""What the benchmarks with peers ask for alike: which, from where they come, and a database."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import arguments
from http_servers import Peer

__all__ = ["chosen_peers", "peer_arguments", "with_a_database"]


def peer_arguments(
    description: str | None, rounds: int, seconds: float | None,
) -> argparse.ArgumentParser:
    """A parser with the options that all of them have; `seconds` of a round by default."""
    parser = arguments(description, rounds=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of each round")
    parser.add_argument("--servers", default="", help="only those whose name has one of these")
    parser.add_argument("--python", default="/usr/bin/python3.11", help="for the environment")
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "apihour-benchmark-venv",
        help="where the peers are installed; made on demand")
    return parser


def chosen_peers(servers: str, peers: list[Peer]) -> list[Peer]:
    """Those whose name has one of the words of `servers`; all without. SystemExit for none."""
    words = [word.strip().lower() for word in servers.split(",") if word.strip()]
    found = [one for one in peers if not words or any(word in one.name.lower() for word in words)]
    if not found:
        raise SystemExit(f"--servers {servers}: expected part of one of "
                         + ", ".join(one.name for one in peers))
    return found


def with_a_database() -> None:
    """Begin again in the environment of a PostgreSQL that ends with this."""
    with tempfile.TemporaryDirectory(prefix="apihour-benchmark-") as place:
        done = subprocess.run(
            [sys.executable, "-m", "apihour.testing.with_postgres", f"{place}/data",
             sys.executable, *sys.argv], check=False)
    raise SystemExit(done.returncode)
