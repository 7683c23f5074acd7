"""The lines one user typed, kept across sessions in a small private file.

Rules:

- One file per key, 0600, named after the fingerprint; bounded in lines and bytes.
- A directory that cannot be written makes it a history of this session only.
- Lines are kept without control characters, those with a secret only as long as the session.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from apihour_console.keys.directory import write_file
from apihour_console.text.render import clean

__all__ = ["LineHistory", "history_path"]

KEPT = 1000  # lines of the past that are loaded
_BYTES = 256 * 1024  # the file is cut to KEPT lines when it has grown past this
_LINE = 4096  # characters; longer ones are pasted, nobody looks for them


def history_path(directory: Path, user: str) -> Path:
    """Where the lines of that user (a key's fingerprint) are kept."""
    return directory / "history" / hashlib.sha256(user.encode()).hexdigest()[:32]


class LineHistory:
    """Oldest first in ``lines``; :meth:`append` writes through.

    `is_secret` says which lines must not be written.
    """

    def __init__(
        self, path: Path | None, logger: logging.Logger,
        is_secret: Callable[[str], bool] = lambda line: False,
    ) -> None:
        self._path = path
        self._logger = logger
        self._is_secret = is_secret
        self.lines: list[str] = []
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _BYTES))
                data = file.read(_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)
            return
        lines = [clean(line) for line in data.decode("utf-8", "replace").split("\n") if line]
        self.lines = lines[-KEPT:]
        if len(data) >= _BYTES:
            text = "".join(f"{line}\n" for line in self.lines)
            try:
                write_file(path, text.encode(), replace=True)
            except OSError as error:
                self._give_up(error)

    def append(self, line: str) -> None:
        """Add a line, unless it repeats the last one or begins with a blank."""
        is_secret = self._is_secret(line)
        line = clean(line).replace("\n", " ")
        if not line.strip() or line[0] == " " or len(line) > _LINE:
            return
        if self.lines and self.lines[-1] == line:
            return
        self.lines.append(line)
        if self._path is None or is_secret:
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            with open(descriptor, "ab", buffering=0) as file:
                file.write(f"{line}\n".encode())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._logger.info("history %s: %s; kept for this session only", self._path, error.strerror)
        self._path = None
