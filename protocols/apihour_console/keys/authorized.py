"""The authorised keys: OpenSSH's ``authorized_keys`` plus ``role="..."``, and who matches.

Rules:

- No I/O here: text in, keys and one line per bad line out. A bad line authorises nobody
  and spoils no other line.
- A key without a role is an observer; a role this program does not know is a bad line.
- ``from=``, ``principals=`` and certificate authorities are matched by asyncssh, so they
  mean what sshd(8) says ("AUTHORIZED_KEYS FILE FORMAT"); ``expiry-time=`` is checked here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh

__all__ = ["ROLES", "AuthorizedKey", "AuthorizedKeys", "parse_authorized_keys", "split_entry"]

ROLES = ("observer", "operator", "admin")
_DEFAULT_ROLE = "observer"
_MINIMUM_RSA = 2048  # bits; NIST SP 800-131A disallows shorter ones
_MAXIMUM_TEXT = 1024 * 1024  # bytes; thousands of keys, and no more than a login may read
_KEY_TYPE = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+\s")
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(,|\s+|$)')


@dataclass(frozen=True)
class AuthorizedKey:
    """One line of the file. ``number`` is the line's, from 1; ``authority``: a CA's key."""

    number: int
    fingerprint: str
    algorithm: str
    comment: str
    role: str
    authority: bool
    options: tuple[tuple[str, str], ...]
    expires: datetime.datetime | None
    key: asyncssh.SSHKey
    rules: Any

    def is_expired(self) -> bool:
        """Whether ``expiry-time`` has passed."""
        return self.expires is not None and datetime.datetime.now(datetime.UTC) >= self.expires


@dataclass(frozen=True)
class AuthorizedKeys:
    """What a file says: its keys, and one line for each line that is none."""

    keys: tuple[AuthorizedKey, ...] = ()
    problems: tuple[str, ...] = ()

    def match(
        self, key: asyncssh.SSHKey, host: str, address: str,
        principals: Sequence[str] | None = None, authority: bool = False,
    ) -> tuple[AuthorizedKey, Mapping[str, object]] | None:
        """The entry that lets `key` in from there, with asyncssh's view of its options."""
        for entry in self.keys:
            if entry.authority is not authority or entry.key != key or entry.is_expired():
                continue
            options = entry.rules.validate(key, host, address, principals, ca=authority)
            if options is not None:
                return entry, options
        return None

    def find(self, fingerprint: str, authority: bool = False) -> AuthorizedKey | None:
        """The entry of that fingerprint that still holds, or None."""
        for entry in self.keys:
            if (entry.fingerprint, entry.authority) == (fingerprint, authority):
                return None if entry.is_expired() else entry
        return None


def parse_authorized_keys(text: str, name: str = "authorized_keys") -> AuthorizedKeys:
    """Read the text of a file called `name`. Never raises: bad lines become problems."""
    if len(text) > _MAXIMUM_TEXT:
        return AuthorizedKeys((), (
            f"{name}: {len(text)} bytes; expected at most {_MAXIMUM_TEXT}, so nobody may log in",
        ))
    keys: list[AuthorizedKey] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            keys.append(_parse_line(number, line))
        except ValueError as error:
            problems.append(f"{name}, line {number}: {error}")
    return AuthorizedKeys(tuple(keys), tuple(problems))


def split_entry(line: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Split a line into its options and the key after them. Raises ValueError.

    An option without a value has the value ``""``.
    """
    options: list[tuple[str, str]] = []
    position = 0
    if not _KEY_TYPE.match(line):
        while True:
            found = _OPTION.match(line, position)
            if found is None:
                raise ValueError(f"option {line[position:][:30]!r}: expected name=\"value\"")
            options.append((found[1].lower(), (found[2] or "").replace('\\"', '"')))
            position = found.end()
            if found[3] != ",":
                break
    return tuple(options), line[position:].strip()


def _parse_line(number: int, line: str) -> AuthorizedKey:
    options, text = split_entry(line)
    names = [name for name, _ in options]
    key = _import_key(text or line)
    role = dict(options).get("role", _DEFAULT_ROLE)
    if role not in ROLES:
        raise ValueError(f"role {role!r}: expected one of {', '.join(ROLES)}")
    if names.count("role") > 1:
        raise ValueError("role given twice; expected it once")
    try:
        rules = asyncssh.import_authorized_keys(line)
    except ValueError as error:
        raise ValueError(f"options {line[:60]!r}: {error}") from error
    expiry = dict(options).get("expiry-time")
    return AuthorizedKey(
        number=number, fingerprint=key.get_fingerprint(), algorithm=key.get_algorithm(),
        comment=key.get_comment() or "", role=role, authority="cert-authority" in names,
        options=options, expires=_parse_expiry(expiry) if expiry is not None else None,
        key=key, rules=rules,
    )


def _import_key(text: str) -> asyncssh.SSHKey:
    try:
        key = asyncssh.import_public_key(text)
    except asyncssh.KeyImportError as error:
        raise ValueError(f"{text[:40]!r}: {error}; expected an OpenSSH public key") from error
    bits = getattr(getattr(key, "pyca_key", None), "key_size", _MINIMUM_RSA)
    if key.get_algorithm() == "ssh-rsa" and bits < _MINIMUM_RSA:
        raise ValueError(f"RSA key of {bits} bits; expected at least {_MINIMUM_RSA}")
    if key.get_algorithm() == "ssh-dss":
        raise ValueError("DSA key; expected Ed25519, ECDSA or RSA")
    return key


def _parse_expiry(text: str) -> datetime.datetime:
    """``YYYYMMDD[HHMM[SS]][Z]`` as sshd(8) has it: local time unless it ends in Z."""
    digits = text.removesuffix("Z")
    formats = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    try:
        moment = datetime.datetime.strptime(digits, formats[len(digits)])
    except (KeyError, ValueError):
        raise ValueError(f"expiry-time {text!r}: expected YYYYMMDD[HHMM[SS]][Z]") from None
    if text.endswith("Z"):
        return moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC)
