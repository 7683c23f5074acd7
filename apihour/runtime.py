"""The runtime directory: where the processes of one daemon find one another.

Rules:

- 0700, owned by the user the workers run as; the uid is the boundary.
- It outlives arbiters: a binary upgrade keeps it, so an open shell session does too.
- On a memory file system where there is one: nothing in it is worth a disk write.
- The arbiter may be root and its owner is not: what root opens, writes or gives away in
  it is made anew (O_EXCL) or never followed through a symbolic link (O_NOFOLLOW).

::

    BASE/apihour-UID/NAME/          NAME: the pid of the daemon's first arbiter
    ├── instance.json               who this is: pid, target, directory, version
    ├── arbiter.sock                control socket of the arbiter
    ├── console.sock                local control socket of the console (``apihour ctl``)
    ├── worker.PID.sock             agent of each worker
    ├── bans.json                   who is refused; see apihour.bans
    ├── scoreboard.PID              one per arbiter; see apihour.scoreboard
    └── shared/                     the embedded store behind ``container.shared``
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError

__all__ = ["Runtime", "base_directory"]


def base_directory(uid: int) -> Path:
    """The directory that holds all daemons of one user, on memory where there is some.

    APIHOUR_RUNTIME_DIR is the only choice where it is set: the shell looks where it was told.
    Not XDG_RUNTIME_DIR: it goes when its user logs out, and the daemon stays. Raises
    ConfigurationError when there is no such directory.
    """
    told = os.environ.get("APIHOUR_RUNTIME_DIR")
    choices = [told] if told else ["/dev/shm", tempfile.gettempdir()]
    for choice in choices:
        if os.path.isdir(choice) and os.access(choice, os.W_OK | os.X_OK):
            return Path(choice) / f"apihour-{uid}"
    if told:
        raise ConfigurationError(f"APIHOUR_RUNTIME_DIR {told!r}: expected a writable directory")
    raise ConfigurationError(
        f"runtime directory: none of {choices} is a writable directory; "
        "set APIHOUR_RUNTIME_DIR to one"
    )


def make_private(path: Path, uid: int, gid: int) -> None:
    """Make `path` a 0700 directory of that user, or raise ConfigurationError saying why not."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            os.chown(path, uid, gid)
        found = os.lstat(path)
    except OSError as error:
        raise ConfigurationError(f"runtime directory {str(path)!r}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise ConfigurationError(
            f"runtime directory {str(path)!r}: expected a directory of uid {uid} with mode 0700, "
            f"found uid {found.st_uid}, mode {stat.filemode(found.st_mode)}"
        )


def is_alive(pid: int) -> bool:
    """Whether a process of that pid exists and is no zombie that nobody reaps (proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but there
    try:
        stat_line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return stat_line.rpartition(")")[2].split()[:1] != ["Z"]


class Runtime:
    """The paths of one daemon."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, uid: int, gid: int, pid: int) -> Runtime:
        """Make the directory of a new daemon, sweeping those whose daemon is gone."""
        base = base_directory(uid)
        make_private(base, uid, gid)
        for stale in cls.instances(base):
            if not stale.is_in_use():
                stale.remove()
        path = base / str(pid)
        if path.exists():  # same pid in another pid namespace, or reused
            path = Path(tempfile.mkdtemp(prefix=f"{pid}-", dir=base))
            os.chown(path, uid, gid)
        else:
            make_private(path, uid, gid)
        return cls(path)

    @staticmethod
    def instances(base: Path) -> list[Runtime]:
        """Every daemon's directory below `base`, by name."""
        if not base.is_dir():
            return []
        return [Runtime(path) for path in sorted(base.iterdir()) if path.is_dir()]

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

    def agent_socket(self, pid: int) -> Path:
        """The socket of the agent in worker `pid`."""
        return self.path / f"worker.{pid}.sock"

    def scoreboard(self, arbiter: int) -> Path:
        """The scoreboard file of the arbiter of that pid."""
        return self.path / f"scoreboard.{arbiter}"

    def scoreboards(self) -> list[tuple[int, Path]]:
        """The scoreboards there are, as (arbiter pid, path), oldest arbiter first."""
        found = [
            (int(path.suffix[1:]), path)
            for path in self.path.glob("scoreboard.*")
            if path.suffix[1:].isdigit()
        ]
        return sorted(found, key=lambda pair: pair[1].stat().st_mtime_ns)

    def write_instance(
        self, facts: dict[str, Any], owner: tuple[int, int] | None = None
    ) -> None:
        """Replace instance.json atomically."""
        temporary = self.path / f".instance.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            if owner is not None:
                os.fchown(fd, *owner)
            json.dump(facts, file)
        temporary.rename(self.instance_file)

    def read_instance(self) -> dict[str, Any]:
        """What instance.json says; empty when there is none yet."""
        try:
            facts = json.loads(self.instance_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def is_in_use(self) -> bool:
        """Whether an arbiter of this daemon lives, or the directory is just being made."""
        pid = self.read_instance().get("pid")
        if isinstance(pid, int):
            return is_alive(pid)
        name = self.path.name.partition("-")[0]
        return name.isdigit() and is_alive(int(name))

    def remove(self) -> None:
        """Delete the directory and all in it; a file that vanishes meanwhile is no error."""
        shutil.rmtree(self.path, ignore_errors=True)
