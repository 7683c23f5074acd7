"""The runtime directory: where the processes of one daemon find one another.

Rules:

- 0700, owned by the user the workers run as; the uid is the boundary.
- It outlives arbiters: a binary upgrade keeps it, so an open shell session does too.
- On a memory file system where there is one: nothing in it is worth a disk write.
- Every process of the daemon holds its lock, and each arbiter that of its scoreboard: who
  lives is told by what is held, never by a pid, which means another process in another pid
  namespace. It gets its name with its lock held, so no other daemon ever takes it for dead.
- The arbiter may be root and its owner is not: what root opens, writes or gives away in
  it is made anew (O_EXCL) or never followed through a symbolic link (O_NOFOLLOW).

::

    BASE/apihour-UID/NAME/          NAME: the pid of the daemon's first arbiter
    ├── lock                        held by every process of the daemon
    ├── instance.json               who this is: pid, target, directory, version
    ├── arbiter.sock                control socket of the arbiter
    ├── console.sock                local control socket of the console (``apihour ctl``)
    ├── worker.PID.sock             agent of each worker
    ├── bans.json                   who is refused; see apihour.bind.ban_book
    ├── flags.json                  the last flags of a store elsewhere; see apihour.shared.flags
    ├── limits.json                 what operators ask of servers; see apihour.limits.live
    ├── tickets.json                secret of TLS session tickets; see apihour.tls.tickets
    ├── told.HASH                   what one worker has said for all; see apihour.tls.renewal
    ├── scoreboard.PID              one per arbiter, locked by it; see apihour.ipc.scoreboard
    └── shared/                     the embedded store behind ``container.shared``
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError
from apihour.ipc.bases import base_directory, is_private
from apihour.ipc.giving import give
from apihour.ipc.holds import is_same, join, lock_alone, make_locked
from apihour.ipc.state_files import replace_json

__all__ = ["Runtime", "base_directory", "make_base"]

_NEW = ".new-"  # what a directory is called until its lock is held
_LEFTOVER = 60.0  # seconds after which a directory without a lock was left by a killed process


class Runtime:
    """The paths of one daemon."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = -1

    @classmethod
    def create(cls, uid: int, gid: int, pid: int) -> Runtime:
        """Make the directory of a new daemon, sweeping those whose processes are gone.

        Raises ConfigurationError when none can be made.
        """
        base = make_base(uid, gid)
        try:
            sweep(base)
        except OSError as error:  # there is no directory yet whose caller could name it
            what = f"{error.filename!r}: " if error.filename else ""
            raise ConfigurationError(
                f"runtime directory {str(base)!r}: {what}{error.strerror}; expected nothing in it "
                "that no daemon has made") from error
        made = cls(base / str(pid))
        made.make((uid, gid))
        return made

    def make(self, owner: tuple[int, int], fixed: bool = False) -> None:
        """Make the directory and hold its lock; a daemon that holds the name keeps it.

        Unless `fixed`, this one has a longer name then. Raises ConfigurationError.
        """
        try:
            fresh = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.path.parent))
            try:
                give(fresh, owner)
                lock = make_locked(fresh / "lock", owner, shared=True)
                self.path = _move(fresh, self.path, fixed)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        except OSError as error:
            raise ConfigurationError(
                f"runtime directory {str(self.path)!r}: {error.strerror}") from error
        self.hold(lock)

    def join(self) -> None:
        """Hold the lock too: in a process that has not inherited it. Raises OSError."""
        self.hold(join(self.lock))

    def hold(self, lock: int) -> None:
        """Hold this lock from now on."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = lock

    def is_intact(self) -> bool:
        """Whether the directory is the one whose lock this process holds."""
        return self._lock >= 0 and is_same(self._lock, self.lock)

    @staticmethod
    def instances(base: Path) -> list[Runtime]:
        """Every daemon's directory below `base`, by name."""
        try:
            return [Runtime(path) for path in sorted(base.iterdir())
                    if path.is_dir() and not path.name.startswith(".")]
        except FileNotFoundError:
            return []

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def instance_file(self) -> Path:
        return self.path / "instance.json"

    @property
    def arbiter_socket(self) -> Path:
        return self.path / "arbiter.sock"

    @property
    def console_socket(self) -> Path:
        return self.path / "console.sock"

    @property
    def shared(self) -> Path:
        return self.path / "shared"

    @property
    def bans(self) -> Path:
        return self.path / "bans.json"

    @property
    def limits(self) -> Path:
        return self.path / "limits.json"

    def agent_socket(self, pid: int) -> Path:
        """The socket of the agent in worker `pid`."""
        return self.path / f"worker.{pid}.sock"

    def scoreboard(self, arbiter: int) -> Path:
        """The scoreboard file of the arbiter of that pid."""
        return self.path / f"scoreboard.{arbiter}"

    def write_instance(
        self, facts: dict[str, Any], owner: tuple[int, int] | None = None
    ) -> None:
        """Say who this daemon is. Raises OSError."""
        replace_json(self.instance_file, facts, owner)

    def sweep(self) -> None:
        """Remove the directory, unless a process of its daemon lives."""
        try:
            lock = lock_alone(self.lock)
        except (BlockingIOError, PermissionError):
            return
        except FileNotFoundError:
            lock = -1
        try:
            self.remove()
        finally:
            if lock >= 0:
                os.close(lock)

    def remove(self) -> None:
        """Delete the directory and all in it; a file that vanishes meanwhile is no error."""
        shutil.rmtree(self.path, ignore_errors=True)


def make_base(uid: int, gid: int) -> Path:
    """Find or make the directory of that user's daemons.

    Raises ConfigurationError when none can be made.
    """
    usual = base_directory(uid)
    try:
        with contextlib.suppress(FileExistsError):
            usual.mkdir(0o700)
            give(usual, (uid, gid))
        if is_private(usual, uid):
            return usual
        from apihour.ipc.taken_bases import other_base  # read where the name is taken only

        return other_base(usual, uid, gid)
    except OSError as error:
        raise ConfigurationError(f"runtime directory {str(usual)!r}: {error.strerror}") from error


def sweep(base: Path) -> None:
    """Remove what daemons of which no process lives have left in `base`."""
    for stale in Runtime.instances(base):
        stale.sweep()
    for path in base.glob(f"{_NEW}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > _LEFTOVER:
                Runtime(path).sweep()


def _move(fresh: Path, place: Path, fixed: bool) -> Path:
    """Rename a new directory to its place, or to a name near it when that is taken."""
    try:
        fresh.rename(place)
    except OSError as error:
        if fixed or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        place = place.with_name(f"{place.name}-{fresh.name.removeprefix(_NEW)}")
        fresh.rename(place)
    return place
