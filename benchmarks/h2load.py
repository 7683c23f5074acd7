"""h2load of nghttp2 as the load of a benchmark: CPU time of the server for an answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from _bench import LOAD_CPU, Server, cpu_seconds, pinned


class H2Load:
    """CPU microseconds of an answer of one server: `count` by 4 connections of 16 at once."""

    def __init__(self, server: Server, count: int, words: Sequence[str]) -> None:
        self.server = server
        self.count = count
        self.command = ["h2load", "-n", str(count), "-c", "4", "-m", "16", *words]

    def __call__(self) -> float:
        before = cpu_seconds(self.server.pid)
        said = subprocess.run([*pinned(LOAD_CPU), *self.command], check=True,
                              capture_output=True, text=True, timeout=120).stdout
        found = re.search(r"status codes: (\d+) 2xx", said)
        if found is None or int(found.group(1)) != self.count:
            raise RuntimeError(f"h2load: {said}")
        return (cpu_seconds(self.server.pid) - before) / self.count * 1e6


def need_h2load() -> None:
    """Leave with a line where it is not installed."""
    if shutil.which("h2load") is None:
        sys.exit("h2load is missing: it comes with nghttp2 (nghttp2-client in Debian)")
