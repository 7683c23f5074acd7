"""``fleet.key``: by which the hosts of a fleet know one another, read again when it has changed.

Rules:

- A key is a line. The first one seals, all of them open: so a key is changed host by host, with no
  moment in which hosts do not understand one another.
- What cannot be read, or trusted, changes nothing while a console runs: it goes on with the keys
  that it has, and says so once.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from apihour.errors import ConfigurationError
from apihour_ssh.private_files import PrivateFileError, open_private

__all__ = ["FleetKeys", "read_fleet_keys"]

_LEAST = 32  # characters of a key
_MOST = 4  # keys: the one before, the present and the next, and one that was forgotten there
_LONGEST = 4096  # bytes of the file
_EXPECTED = "expected one that all hosts of the fleet have: apihour keys fleet"


def read_fleet_keys(path: Path) -> tuple[bytes, ...]:
    """The keys in that file.

    Raises ConfigurationError when there is none, when others may read it, or when a line is too
    short to be a key.
    """
    try:
        with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
            lines = file.read(_LONGEST + 1).split(b"\n")
    except PrivateFileError as error:
        raise ConfigurationError(str(error)) from error
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: there is none; {_EXPECTED}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; {_EXPECTED}") from error
    keys = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not keys:
        raise ConfigurationError(f"{path}: it is empty; {_EXPECTED}")
    for number, key in keys.items():
        if len(key) < _LEAST:
            raise ConfigurationError(
                f"{path}: line {number} has {len(key)} characters; expected {_LEAST} or more at "
                "random, the same on every host")
    if len(keys) > _MOST or sum(map(len, lines)) > _LONGEST:
        raise ConfigurationError(f"{path}: {len(keys)} keys or more; expected {_MOST} at most, the "
                                 f"one to use first, in {_LONGEST} bytes")
    return tuple(keys.values())


class FleetKeys:
    """The keys as they are in the file now; the first one seals."""

    def __init__(self, path: Path, logger: logging.Logger) -> None:
        """Raises ConfigurationError as :func:`read_fleet_keys`."""
        self._path = path
        self._logger = logger
        self._stamp = self._look()
        self._keys = read_fleet_keys(path)

    def __call__(self) -> tuple[bytes, ...]:
        """The keys, read again when the file is another one."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self._read_again()
        return self._keys

    def _look(self) -> tuple[int, ...]:
        try:
            facts = self._path.lstat()
        except OSError:
            return ()
        return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns

    def _read_again(self) -> None:
        try:
            keys = read_fleet_keys(self._path)
        except ConfigurationError as error:
            self._logger.error("fleet: %s; the keys that were there before stay", error)
            return
        if keys != self._keys:
            self._keys = keys
            self._logger.info("fleet: %s has changed: its first key of %d seals now",
                              self._path, len(keys))
