"""The authorised keys of an SSH server: OpenSSH's file, read again when it changed.

Rules:

- A bad line authorises nobody and spoils no other line: it is named in the log.
- A file or directory that others may write, or that is another user's, is as one that cannot
  be read: what sshd(8) refuses with StrictModes.
- A file that became unreadable or empty authorises nobody (a revocation is obeyed at the
  next login), and says so once; to :meth:`AuthorizedKeysFile.load` it is an error.
- Options mean what sshd(8) says, "AUTHORIZED_KEYS FILE FORMAT": asyncssh matches ``from=``,
  ``principals=``, ``cert-authority``, ``command=``, ``no-pty``, ``permitopen=``;
  ``expiry-time=`` is looked at here.
"""

from __future__ import annotations

import datetime
import logging
import os
import shlex
import stat
from pathlib import Path
from typing import Any

from apihour_ssh.private_files import PrivateFileError, check_directory, check_trusted

__all__ = ["AuthorizedKeysError", "AuthorizedKeysFile", "is_expired"]

# bytes; thousands of keys, and no more than a login may wait for
_MAXIMUM = 1 << 20


class AuthorizedKeysError(ValueError):
    """A file that authorises nobody; the message names it and what was expected."""


class AuthorizedKeysFile:
    """The keys of one file, kept until the file changes. Looking costs two stat(2)."""

    def __init__(self, path: str | os.PathLike[str], logger: logging.Logger) -> None:
        self.path = Path(path)
        self._logger = logger
        self._seen: tuple[int, ...] | None = None
        self._keys: Any = None
        self._complaint = ""

    def load(self) -> Any:
        """Read the file: an ``asyncssh.SSHAuthorizedKeys``. Raises AuthorizedKeysError."""
        import asyncssh

        try:
            seen = self._stamp()
            check_directory(self.path.parent)
            text = self._read()
        except PrivateFileError as error:
            raise AuthorizedKeysError(f"authorized keys {error}") from error
        except OSError as error:
            raise AuthorizedKeysError(
                f"authorized keys {self.path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise AuthorizedKeysError(
                f"authorized keys {self.path}: is not text: {error}") from error
        self._seen = seen
        good = self._good_lines(text)
        if not good:
            raise AuthorizedKeysError(
                f"authorized keys {self.path}: holds no key, expected OpenSSH's format")
        self._keys = asyncssh.import_authorized_keys("\n".join(good))
        self._complaint = ""
        return self._keys

    def expect(self) -> Any:
        """No keys so far, of a file that may be on its way: :meth:`remind` looks again."""
        import asyncssh

        self._keys = asyncssh.SSHAuthorizedKeys()
        return self._keys

    def remind(self) -> None:
        """Say, once, that nobody can log in, when the file is not there."""
        if not self.path.exists():
            self._absent()

    def _absent(self) -> Any:
        how = "write public keys to it, one a line"
        if self.path.name == "authorized_keys":
            how = ("add a public key: apihour keys add --keys "
                   f"{shlex.quote(str(self.path.parent))} FILE.pub")
        return self._nobody(f"{self.path} is not there; {how}", logging.WARNING)

    def current(self) -> Any:
        """The keys as they are now: empty, with a line in the log, when they cannot be read."""
        try:
            if self._seen == self._stamp():
                return self._keys
            return self.load()
        except FileNotFoundError:
            return self._absent()
        except (OSError, AuthorizedKeysError) as error:
            return self._nobody(str(error), logging.ERROR)

    def _nobody(self, complaint: str, level: int) -> Any:
        import asyncssh

        if complaint != self._complaint:
            self._complaint = complaint
            self._logger.log(level, "nobody can log in by key: %s", complaint)
        self._seen, self._keys = None, asyncssh.SSHAuthorizedKeys()
        return self._keys

    def _stamp(self) -> tuple[int, ...]:
        """What changes when the file does, or who may write it."""
        facts, place = self.path.stat(), self.path.parent.stat()
        return (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino,
                place.st_mode, place.st_uid)

    def _read(self) -> str:
        with open(self.path, encoding="utf-8") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode):  # /dev/null says that nobody may
                check_trusted(self.path, facts)
            if facts.st_size > _MAXIMUM:
                raise AuthorizedKeysError(f"authorized keys {self.path}: {facts.st_size} bytes, "
                                          f"expected at most {_MAXIMUM}")
            return file.read(_MAXIMUM)

    def _good_lines(self, text: str) -> list[str]:
        import asyncssh

        good = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                asyncssh.import_authorized_keys(line)
            except ValueError as error:
                self._logger.warning("authorized keys %s, line %d: ignored: %s", self.path,
                                     number, error or "no key")
            else:
                good.append(line)
        return good


def is_expired(value: Any, now: datetime.datetime) -> bool:
    """Whether an ``expiry-time`` option has passed; one that cannot be understood has.

    ``YYYYMMDD[HHMM[SS]][Z]`` in local time, or in UTC with the Z. `now` is an aware time.
    """
    if not value:
        return False
    text = str(value[-1] if isinstance(value, list) else value)
    digits = text.removesuffix("Z").removesuffix("z")
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if form is None or not digits.isdigit():
        return True
    try:
        moment = datetime.datetime.strptime(digits, form)
    except ValueError:
        return True
    zone = datetime.UTC if digits != text else None
    return now >= (moment.replace(tzinfo=zone) if zone else moment.astimezone())
