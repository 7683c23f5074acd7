"""The networks from which somebody has logged in, kept across restarts in a private file.

Rules:

- A memory that helps and is never needed: a file that cannot be read or written is said
  once, and the networks are then those of this process.
- Several processes share the file (workers, generations, daemons with one keys directory):
  each replaces it whole, and writes again what another's write has lost.
- A file that somebody else could have written is not believed. Bounded in networks and age.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from pathlib import Path

from apihour_ssh.limits import network_of
from apihour_ssh.private_files import PrivateFileError, read_tail

__all__ = ["KnownNetworks"]

_KEPT = 512  # networks, those last seen: about 20 kB
_BYTES = 64 * 1024
_AGE = 90 * 86400.0  # seconds without a login after which a network is a stranger again
_FRESH = 86400.0  # seconds for which a network that is on the disk need not be written again


class KnownNetworks:
    """``network in known``; :meth:`add`. `path` None: in memory only."""

    def __init__(self, path: Path | None, logger: logging.Logger) -> None:
        self._path = path
        self._logger = logger
        self._logins: dict[str, float] = {}  # network: seconds since the epoch
        self._stamp: tuple[int, int, int] | None = None
        self._complaint = ""

    def __contains__(self, network: object) -> bool:
        self._look()
        return self._logins.get(str(network), 0.0) > time.time() - _AGE

    def add(self, network: str) -> None:
        """Somebody has logged in from there; ``""`` is no network."""
        now = time.time()
        self._look()
        if network and self._logins.get(network, 0.0) < now - _FRESH:
            self._logins[network] = now
            self._write()

    def _look(self) -> None:
        """Take in what others have written; costs one stat(2) when they have not."""
        if self._path is None:
            return
        try:
            facts = os.stat(self._path, follow_symlinks=False)
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            text = read_tail(self._path, _BYTES)
        except FileNotFoundError:
            return
        except (OSError, PrivateFileError) as error:
            self._complain(error)
            return
        there = _parse(text)
        lost = self._logins.keys() - there.keys()
        for network, moment in there.items():
            self._logins[network] = max(moment, self._logins.get(network, 0.0))
        if lost and len(there) < _KEPT:
            self._write()

    def _write(self) -> None:
        newest = sorted(self._logins.items(), key=lambda item: item[1])[-_KEPT:]
        self._logins = dict(newest)
        if self._path is None:
            return
        text = "".join(f"{network} {moment:.0f}\n" for network, moment in newest)
        try:
            self._replace(self._path, text.encode())
        except OSError as error:
            self._complain(error)

    def _replace(self, path: Path, data: bytes) -> None:
        descriptor, written = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                facts = os.fstat(descriptor)
            os.replace(written, path)
            self._stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(written)
            raise

    def _complain(self, error: Exception) -> None:
        reason = str(getattr(error, "strerror", None) or error)
        if reason != self._complaint:
            self._complaint = reason
            self._logger.info("known networks %s: %s; kept in memory", self._path, reason)


def _parse(text: str) -> dict[str, float]:
    """The lines that say something: ``NETWORK SECONDS``."""
    found: dict[str, float] = {}
    latest = time.time()
    for line in text.splitlines():
        network, _, moment = line.partition(" ")
        if network_of(network.partition("/")[0]) == network and moment.isdecimal():
            found[network] = min(float(moment[:12]), latest)
    return found
