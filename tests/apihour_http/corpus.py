"""gunicorn's request corpus, fetched from its source distribution at test time.

Its files are not in this repository. What is fetched is kept in the user's cache.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

RELEASE = "27.0.1"


@dataclass(frozen=True)
class Case:
    """One request of the corpus; `options` says that its expectation needs a setting."""

    name: str
    data: bytes
    options: bool


def fetch() -> Path:
    """The path of the source distribution. Raises OSError when it cannot be had."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = base / "apihour-tests"
    archive = cache / f"gunicorn-{RELEASE}.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
             "--no-build-isolation", f"gunicorn=={RELEASE}", "-d", str(cache)],
            capture_output=True, text=True, timeout=100, check=False,
        )
        if not archive.exists():
            raise OSError(f"gunicorn's source distribution: {done.stderr.strip()[-300:]}")
    return archive


def cases(kind: str) -> list[Case]:
    """The cases of ``valid`` or ``invalid``, in order."""
    with tarfile.open(fetch()) as tar:
        files = {
            member.name.split("/", 1)[1]: tar.extractfile(member)
            for member in tar.getmembers()
            if f"/tests/requests/{kind}/" in member.name and member.isfile()
        }
        texts = {name: (file or io.BytesIO()).read() for name, file in files.items()}
    found = []
    for name in sorted(texts):
        if name.endswith(".http"):
            script = texts.get(name[:-5] + ".py", b"")
            found.append(Case(Path(name).stem, decode(texts[name]), b"cfg.set(" in script))
    return found


def decode(text: bytes) -> bytes:
    """The bytes a file stands for: its newlines are layout, its escapes are the data."""
    data = text.replace(b"\n", b"").replace(b"\\r", b"\r").replace(b"\\n", b"\n")
    data = data.replace(b"\\0", b"\0").replace(b"\\t", b"\t")
    return re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda m: bytes([int(m.group(1), 16)]), data)


def with_host(data: bytes) -> bytes:
    """Add a Host where HTTP/1.1 lacks one: the corpus is older than that rule."""
    if b"\nhost:" in data.lower():
        return data
    return re.sub(rb"^([A-Z]+ [^ ]+ HTTP/1\.1\r\n)", rb"\1Host: test\r\n", data, flags=re.M)
