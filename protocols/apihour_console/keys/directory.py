"""The keys directory of a daemon: host key, authorised keys, and what a first start does.

Rules:

- Keys are invented only at a first start from a terminal (no ``authorized_keys`` yet).
  Without a terminal the network shell stays off and one line says how to turn it on.
- Private keys are made 0600 and never overwritten; a file appears whole or not at all. One of
  ours that others may read is refused, as sshd(8) does.
- A directory that cannot be written is read, and nothing in it is missed but the host key.
- Whatever is unreadable, malformed, another's or writable by others (the directory too) is
  one line that names it and says what mends it: what sshd(8) refuses with StrictModes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from apihour_console.keys.authorized import AuthorizedKeys, parse_authorized_keys
from apihour_ssh.private_files import PrivateFileError, check_directory, check_trusted

__all__ = ["KeyDirectory", "KeysError", "Prepared", "prepare", "write_file"]

ADMIN_KEY = "admin_ed25519"
AUTHORIZED = "authorized_keys"
HOST_KEY = "ssh_host_ed25519_key"
_MAXIMUM = 1024 * 1024  # bytes read from any file here; a key file is a few hundred


class KeysError(Exception):
    """A file of the keys directory cannot be used; ``str()`` is one line."""


@dataclass(frozen=True)
class Prepared:
    """What a start found: ``off`` is the one line that says why there is no network shell."""

    host_key: asyncssh.SSHKey | None = None
    authorized: AuthorizedKeys = field(default_factory=AuthorizedKeys)
    notes: tuple[str, ...] = ()
    off: str = ""


class KeyDirectory:
    """The paths of one keys directory, and reading and writing of what is in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def authorized(self) -> Path:
        return self.path / AUTHORIZED

    @property
    def host_key(self) -> Path:
        return self.path / HOST_KEY

    @property
    def admin_key(self) -> Path:
        return self.path / ADMIN_KEY

    def read_authorized(self) -> AuthorizedKeys:
        """Parse ``authorized_keys``. Raises KeysError when it is there and cannot be trusted."""
        try:
            check_directory(self.path)
            with open(self.authorized, encoding="utf-8") as file:
                check_trusted(self.authorized, os.fstat(file.fileno()))
                text = file.read(_MAXIMUM + 1)
        except FileNotFoundError:
            return AuthorizedKeys()
        except PrivateFileError as error:
            raise KeysError(str(error)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{self.authorized}: {_reason(error)}; expected a text file") from error
        return parse_authorized_keys(text, str(self.authorized))

    def read_host_key(self) -> asyncssh.SSHKey | None:
        """The host key, None when there is none. Raises KeysError when it cannot be used."""
        return _read_private(self.host_key)

    def make_host_key(self) -> asyncssh.SSHKey:
        """Make the host key. Raises KeysError when it cannot be written."""
        return self._make_pair(self.host_key, "apihour host key")

    def make_admin_key(self) -> asyncssh.SSHKey:
        """Make ``admin_ed25519``, or return the one there is."""
        return _read_private(self.admin_key) or self._make_pair(self.admin_key, "apihour admin")

    def write_authorized(self, lines: Sequence[str]) -> None:
        """Replace ``authorized_keys`` (0600). Raises KeysError when it cannot be written."""
        self._ensure()
        _write(self.authorized, "".join(f"{line}\n" for line in lines).encode(), replace=True)

    def write_new(self, path: Path, data: bytes) -> None:
        """Write a file of this directory, 0600. Raises KeysError when it is there already."""
        self._ensure()
        _write(path, data, replace=False)

    def _make_pair(self, path: Path, comment: str) -> asyncssh.SSHKey:
        """Make a key, or return the one that another process made meanwhile."""
        self._ensure()
        key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
        try:
            _write(path, key.export_private_key("openssh"), replace=False)
        except KeysError:
            found = _read_private(path)
            if found is None:
                raise
            return found
        public = path.with_name(path.name + ".pub")
        _write(public, key.export_public_key("openssh"), replace=True, mode=0o644)
        return key

    def _ensure(self) -> None:
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise KeysError(
                f"keys directory {str(self.path)!r}: {_reason(error)}; expected a directory"
            ) from error


def prepare(
    directory: KeyDirectory, *, terminal: bool, root: bool, home: Path | None,
    port: int = 0, host: str = "127.0.0.1",
) -> Prepared:
    """Get a keys directory ready to serve from; every failure is told, none is raised.

    `terminal`: the daemon was started from one and has a socket for the shell; `root`: by
    uid 0, whose own keys are then not taken from `home`. `host` and `port` go into the
    printed ``ssh`` line.
    """
    try:
        return _prepare(directory, terminal, None if root else home, host, port)
    except KeysError as error:
        return Prepared(off=f"network shell off: {error}")
    except PermissionError as error:
        return Prepared(off=(
            f"network shell off: {error.filename}: {error.strerror} for uid {os.geteuid()}; "
            "expected a keys directory that the workers' user may read"
        ))


def _prepare(
    directory: KeyDirectory, terminal: bool, home: Path | None, host: str, port: int
) -> Prepared:
    notes: list[str] = []
    is_first = not directory.authorized.exists()
    authorized = directory.read_authorized()  # refuses what is not ours before it adds to it
    if is_first:
        if not terminal:
            return Prepared(off=(
                f"network shell off: no {directory.authorized}; to turn it on: "
                f"apihour keys add --keys {directory.path} FILE.pub --role admin"
            ))
        notes += _first_keys(directory, home, host, port)
        authorized = directory.read_authorized()
    notes += authorized.problems
    if not authorized.keys:
        return Prepared(authorized=authorized, notes=tuple(notes), off=(
            f"network shell off: {directory.authorized} authorises no key; add one with: "
            f"apihour keys add --keys {directory.path} FILE.pub --role admin"
        ))
    host_key = directory.read_host_key()
    if host_key is None:
        host_key = directory.make_host_key()
        notes.append(f"made host key {directory.host_key}, {host_key.get_fingerprint()}")
    return Prepared(host_key, authorized, tuple(notes))


def _first_keys(directory: KeyDirectory, home: Path | None, host: str, port: int) -> list[str]:
    """Authorise the starting user's own keys, or a new one; returns the lines to tell."""
    own = _own_keys(home) if home is not None else []
    if own:
        directory.write_authorized([f'role="admin" {text}' for _, text in own])
        names = ", ".join(str(path) for path, _ in own)
        return [f"authorised {names} as admin: ssh admin@{host} -p {port}"]
    key = directory.make_admin_key()
    public = key.export_public_key("openssh").decode().strip()
    directory.write_authorized([f'role="admin" {public}'])
    return [f"made an admin key: ssh -i {directory.admin_key.absolute()} admin@{host} -p {port}"]


def _own_keys(home: Path) -> list[tuple[Path, str]]:
    """The usable public keys of ``~/.ssh/id_*.pub``; others are passed by."""
    found = []
    for path in sorted((home / ".ssh").glob("id_*.pub")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="utf-8").strip()
            if len(parse_authorized_keys(text).keys) == 1:
                found.append((path, text))
    return found


def _read_private(path: Path) -> asyncssh.SSHKey | None:
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
                raise KeysError(f"{path}: mode {facts.st_mode & 0o777:04o} lets others read a "
                                f"private key; expected 0600: chmod 600 {shlex.quote(str(path))}")
            data = file.read(_MAXIMUM)
        return asyncssh.import_private_key(data)
    except FileNotFoundError:
        return None
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise KeysError(
            f"{path}: {_reason(error)}; expected an OpenSSH private key without a passphrase"
        ) from error


def write_file(path: Path, data: bytes, *, replace: bool, mode: int = 0o600) -> None:
    """Write a file whole or not at all; raises FileExistsError unless `replace`, OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _write(path: Path, data: bytes, *, replace: bool, mode: int = 0o600) -> None:
    try:
        write_file(path, data, replace=replace, mode=mode)
    except OSError as error:
        raise KeysError(f"{path}: {_reason(error)}; cannot write it") from error


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
