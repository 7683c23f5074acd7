"""The audit log: who ran what from where, on which workers, and how it ended.

Rules:

- Append-only JSON lines, 0600; at a size limit the file becomes ``.1`` (``.1`` ``.2``...).
  Several processes may write one file: one of them rotates it.
- No link is followed, and no file is written that others could have put there or may read.
- What cannot be written is said once, lives in memory (bounded), and is written when it can be.
  So is, unsaid, what happens before there is a keys directory: ``apihour keys add`` makes one.
- Secrets in commands and outcomes are masked (:mod:`apihour.masking`).
- An entry is written when a command ends, and for logins, refusals and kicks.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apihour.ipc.host_name import host_name
from apihour.masking import mask_text
from apihour.ops.annotations import Address
from apihour_console.calls.call import Identity
from apihour_ssh.private_files import PrivateFileError, check_directory, open_private, read_tail

__all__ = ["AuditLog", "AuditRecord", "daemon_label"]

_SIZE = 10 * 1024 * 1024  # bytes of one file; with KEPT below, 40 MB at most
_KEPT = 3
_REMEMBERED = 1000  # entries in memory: what ``audit`` shows where no file can be written
_TAIL = 512 * 1024  # bytes of the file that are read at the start
_COMMAND = 2000  # characters of a command line that are kept
_PENDING = 1000  # entries a slow follower may be behind before it loses some


@dataclass(frozen=True)
class AuditRecord:
    """One line. `time`: seconds since the epoch, `duration`: seconds; `status`: as of exit.

    `certificate`: key id and serial of a login by one; `fingerprint` is the authority's then.
    `daemon`: which of those that share a keys directory, ``HOST/INSTANCE (NAME)``.
    """

    time: float
    event: str
    user: str
    fingerprint: str
    role: str
    address: Address
    command: str = ""
    workers: str = ""
    outcome: str = "ok"
    status: int = 0
    duration: float = 0.0
    certificate: str = ""
    daemon: str = ""


class AuditLog:
    """Appends records; reads the last ones; follows."""

    def __init__(self, path: Path | None, logger: logging.Logger, daemon: str = "") -> None:
        """`daemon`: who writes, see :func:`daemon_label`."""
        self.daemon = daemon
        self._path = path
        self._logger = logger
        self._recent: collections.deque[AuditRecord] = collections.deque(maxlen=_REMEMBERED)
        self._unwritten: collections.deque[bytes] = collections.deque(maxlen=_REMEMBERED)
        self._complaint = ""
        self._awaited = path is not None and not path.parent.exists()
        self._followers: set[asyncio.Queue[AuditRecord]] = set()
        if path is not None:
            self._recent.extend(_read_tail(path))

    def write(self, record: AuditRecord) -> None:
        """Append one record; a file that refuses is logged once, the entry stays in memory."""
        self._recent.append(record)
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(record)
        if self._path is None:
            return
        line = json.dumps(asdict(record), separators=(",", ":")) + "\n"
        self._unwritten.append(line.encode())
        self._awaited = self._awaited and not self._path.parent.exists()
        if self._awaited:
            return
        try:
            _append(self._path, b"".join(self._unwritten))
        except (OSError, PrivateFileError) as error:
            self._complain(str(getattr(error, "strerror", None) or error))
        else:
            self._unwritten.clear()
            if self._complaint:
                self._complaint = ""
                self._logger.info("audit log %s: is written again", self._path)

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            self._logger.warning("audit log %s: %s; the last %d entries are kept in memory",
                                 self._path, reason, _REMEMBERED)

    def record(
        self, event: str, *, user: str, fingerprint: str = "", role: str = "", address: str = "",
        command: str = "", workers: str = "", outcome: str = "ok", status: int = 0,
        duration: float = 0.0, certificate: str = "",
    ) -> None:
        """Append one record of now, without the secrets in `command` and `outcome`."""
        shown = mask_text(command, code=event == "python")[:_COMMAND]
        self.write(AuditRecord(
            time.time(), event, user, fingerprint, role, address, shown,
            workers, mask_text(outcome), status, round(duration, 6), certificate,
            self.daemon,
        ))

    def record_of(self, event: str, who: Identity, **facts: Any) -> None:
        """Append one record of now about `who`; `facts` as of :meth:`record`."""
        self.record(event, user=who.name, fingerprint=who.fingerprint, role=str(who.role),
                    address=who.address, certificate=who.certificate, **facts)

    def recent(self, count: int = 100) -> list[AuditRecord]:
        """The last `count` records, oldest first."""
        return list(self._recent)[-count:] if count > 0 else []

    @contextlib.contextmanager
    def follow(self) -> Iterator[asyncio.Queue[AuditRecord]]:
        """A queue that gets the records written from now on."""
        queue: asyncio.Queue[AuditRecord] = asyncio.Queue(_PENDING)
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)


def daemon_label(runtime: Path, name: str) -> str:
    """A daemon by the name of its host, of its runtime directory (``--instance``), and its own.

    In two containers both may be the same process on the same system, but for the host.
    """
    return f"{host_name()}/{runtime.name} ({name})"


def _append(path: Path, data: bytes) -> None:
    check_directory(path.parent)
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open(descriptor, "ab", buffering=0) as file:
        file.write(data)
        if os.fstat(descriptor).st_size >= _SIZE:
            with contextlib.suppress(BlockingIOError):  # somebody else is about it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _rotate(path, os.fstat(descriptor).st_ino)


def _rotate(path: Path, inode: int) -> None:
    """Give the file and the older ones their next number, unless somebody else just has."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path, follow_symlinks=False).st_ino != inode:
            return
    for number in range(_KEPT, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(older, path.with_name(f"{path.name}.{number}"))


def _read_tail(path: Path) -> list[AuditRecord]:
    """The records at the end of the file; lines that are none are passed by.

    A file that others may have written is not read: the first record says what is wrong.
    """
    found = []
    with contextlib.suppress(OSError, PrivateFileError):
        for line in read_tail(path, _TAIL).split("\n")[-_REMEMBERED:]:
            with contextlib.suppress(ValueError, TypeError):
                found.append(AuditRecord(**json.loads(line)))
    return found
