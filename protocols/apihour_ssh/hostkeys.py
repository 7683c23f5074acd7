"""The host key of an SSH server: made when missing, loaded, or refused with one line.

Rules:

- A key file appears whole or not at all: written beside, 0600, then linked to its name.
  Of several workers that start at once one wins, and all load the winner's key.
- A key that others may read is refused, as sshd(8) does.
- A key is never printed.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_PATH", "HostKeyError", "load_host_keys"]

DEFAULT_PATH = "keys/ssh_host_ed25519_key"


class HostKeyError(ValueError):
    """A host key that cannot be used; the message names the file and what was expected."""


def load_host_keys(sources: Any) -> list[Any]:
    """The private keys of `sources`: a path, an ``asyncssh.SSHKey``, or several of them.

    A path that does not exist gets a new ed25519 key. Raises HostKeyError.
    """
    if isinstance(sources, (str, os.PathLike)) or not isinstance(sources, Sequence):
        sources = [sources]
    if not sources:
        raise HostKeyError("host keys: expected at least one file or key, got none")
    return [_load(source) for source in sources]


def _load(source: Any) -> Any:
    import asyncssh

    if isinstance(source, asyncssh.SSHKey):
        return source
    path = Path(source)
    if not path.exists():
        _make(path)
    return _read(path)


def _read(path: Path) -> Any:
    import asyncssh

    try:
        facts = path.stat()
        if facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
            raise HostKeyError(f"host key {path}: mode {facts.st_mode & 0o777:04o} lets others "
                               f"read it, expected 0600: chmod 600 {shlex.quote(str(path))}")
        return asyncssh.import_private_key(path.read_bytes())
    except OSError as error:
        raise HostKeyError(f"host key {path}: cannot be read: {error.strerror}") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise HostKeyError(
            f"host key {path}: {error}; expected an unencrypted private key in OpenSSH's format"
        ) from error


def _make(path: Path) -> None:
    """Write a new key to `path`, unless somebody else does so first."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment="apihour host key")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, written = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key.export_private_key())
                file.flush()
                os.fsync(descriptor)
            try:
                os.link(written, path)
            except FileExistsError:
                return
            path.with_name(path.name + ".pub").write_bytes(key.export_public_key())
        finally:
            os.unlink(written)
    except OSError as error:
        raise HostKeyError(f"host key {path}: does not exist and cannot be made: "
                           f"{error.strerror}") from error
