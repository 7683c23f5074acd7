"""What a daemon's start can say of the shell's key files, before there is a shell.

Rules:

- Nothing is made or changed here, and little is imported for it: the arbiter asks.
- What is not there yet is no fault: the console makes it, or says how to make it.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from apihour_ssh.private_files import PrivateFileError, check_writers

__all__ = ["FLEET_KEY", "check_keys", "has_keys"]

FLEET_KEY = "fleet.key"

# What the console reads at its start, and what must be in it.
_KEY_FILES = {"ssh_host_ed25519_key": b"PRIVATE KEY-----", "authorized_keys": b""}
_LONGEST = 65536  # bytes looked at; a key file is a few hundred


def has_keys(directory: str) -> bool:
    """Whether somebody may log in with the keys of that directory."""
    return os.path.exists(os.path.join(directory, "authorized_keys"))


def check_keys(directory: str, uid: int) -> None:
    """Raise ValueError, one line, when files of `directory` cannot be read or trusted.

    `uid`: the user the console will run as. What sshd(8) refuses with StrictModes is refused.
    """
    if os.path.lexists(directory) and not os.path.isdir(directory):
        raise ValueError("expected a directory")
    for path in (directory, os.path.join(directory, "authorized_keys")):
        _check_owner(Path(path), uid)
    for name, mark in _KEY_FILES.items():
        _check_file(os.path.join(directory, name), mark)


def _check_owner(path: Path, uid: int) -> None:
    try:
        facts = os.stat(path)
    except OSError:
        return  # what cannot be read is said by who reads it
    if facts.st_uid not in (0, uid):
        raise PrivateFileError(f"{path}: is owned by uid {facts.st_uid}; expected {uid} or root: "
                               f"chown {uid} {shlex.quote(str(path))}")
    check_writers(path, facts)


def _check_file(path: str, mark: bytes) -> None:
    try:
        with open(path, "rb") as file:
            text, facts = file.read(_LONGEST), os.fstat(file.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a file that can be read") from error
    if mark not in text:
        raise ValueError(f"{path}: expected a private key in PEM format")
    if mark and facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
        raise PrivateFileError(
            f"{path}: mode {facts.st_mode & 0o777:04o} lets others read a private key; "
            f"expected 0600: chmod 600 {shlex.quote(path)}")
