"""Files of ACME: account keys, certificates, what failed, and the challenges of now.

Rules:

- The directory is 0700 and its owner's, files are 0600 and replaced whole: a certificate and its
  key are one file, so that no half of a pair is ever there.
- Every worker answers challenges, so they are files too: TOKEN for http-01, NAME for tls-alpn-01.
  What a client says is a name of a file only where it is a name that we have, or a token's letters.

::

    DIR/account-HASH.pem            the key of the account at one ACME server
    DIR/NAME-HASH.pem               certificate and key, of the names of one bind
    DIR/NAME-HASH.json              how often it failed and why, and when it is tried again
    DIR/pending/TOKEN, NAME.pem     challenges; gone when the attempt is over
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError
from apihour.ipc.giving import give
from apihour.ipc.state_files import replace_json

__all__ = ["AcmeStore"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}\Z")  # RFC 8555 8.1: base64url, 128 bits at least
_STALE = 3600.0  # seconds after which a challenge was left by a worker that was killed


class AcmeStore:
    """The state of ``--acme-state``, for one ACME server. `owner` is the (uid, gid) of workers."""

    def __init__(self, path: str, server: str, owner: tuple[int, int]) -> None:
        self.path = Path(path).absolute()
        self.server = server
        self.owner = owner
        self._hash = hashlib.sha256(server.encode()).hexdigest()[:8]

    def make(self) -> None:
        """Make the directories. Raises ConfigurationError."""
        try:
            for path in (self.path, self.path / "pending"):
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=0o700)
                    give(path, self.owner)
                if not path.is_dir() or path.stat().st_mode & 0o077:
                    raise ConfigurationError(
                        f"--acme-state {str(path)!r}: expected a directory of mode 0700, for it "
                        "holds private keys")
        except OSError as error:
            raise ConfigurationError(
                f"--acme-state {str(self.path)!r}: {error.strerror}; expected a directory that "
                "can be made there, or is") from error

    def certificate(self, domains: Sequence[str]) -> Path:
        """The file of the certificate of these names."""
        text = " ".join([self.server, *sorted(domains)])
        return self.path / f"{domains[0]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.pem"

    @property
    def account(self) -> Path:
        """The file of the account's key."""
        return self.path / f"account-{self._hash}.pem"

    def write(self, path: Path, data: bytes, keep: bool = False) -> None:
        """Put a file in its place, whole; with `keep` one that is there stays. Raises OSError."""
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                give(fd, self.owner)
                file.write(data)
                file.flush()
                os.fsync(fd)
            if keep:
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, path)
            else:
                fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)

    # -- challenges

    def token(self, token: str) -> Path | None:
        """The file of an http-01 challenge, None for what cannot be one."""
        return self.path / "pending" / token if _TOKEN.match(token) else None

    def answer(self, token: str) -> str | None:
        """What proves to the ACME server that the name is ours, if that is asked for now."""
        path = self.token(token)
        try:
            return None if path is None else path.read_text(encoding="ascii")
        except (OSError, ValueError):
            return None

    def validation(self, domain: str) -> Path:
        """The file of the certificate of a tls-alpn-01 challenge, with its key."""
        return self.path / "pending" / f"{domain}.pem"

    def sweep(self) -> None:
        """Remove challenges that workers which are gone have left."""
        for path in (self.path / "pending").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()

    # -- attempts

    def recall(self, domains: Sequence[str]) -> dict[str, Any]:
        """What is known of attempts: ``count`` of failures, ``next`` (a time of day), ``why``.

        ``kind`` is the challenge by which it went well the last time.
        """
        try:
            found = json.loads(self.certificate(domains).with_suffix(".json").read_text())
            return {"count": int(found["count"]), "next": float(found["next"]),
                    "why": str(found["why"]), "kind": str(found["kind"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {"count": 0, "next": 0.0, "why": "", "kind": ""}  # none, or of another version

    def remember(
        self, domains: Sequence[str], count: int, next_try: float, why: str, kind: str
    ) -> None:
        """How often it has failed since it went well, why, and when to try. Raises OSError."""
        replace_json(self.certificate(domains).with_suffix(".json"),
                     {"count": count, "next": next_try, "why": why, "kind": kind})
