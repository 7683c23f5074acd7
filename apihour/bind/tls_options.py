"""What the text of a bind says of TLS: ``?tls``, ``tls=FILE``, ``tls=modern`` and their company.

Options are read in order: ``key`` and ``ocsp`` belong to the ``tls=FILE`` before them, and the
first certificate is for clients that name none of those there are (RFC 6066 3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

__all__ = ["CertificateFiles", "TLSOptions", "parse_tls"]

_WORDS = ("", "modern", "acme")  # values of tls that are no files
_MOST_DOMAINS = 100  # of one certificate, at Let's Encrypt
# A name of DNS in ASCII (RFC 5890 2.3.1) with a dot in it; who has another pays for its renewal.
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})+\Z")
_CLIENTS = ("none", "optional", "required")
"""By the number of ``ssl.VerifyMode``."""


@dataclass(frozen=True)
class CertificateFiles:
    """A chain in PEM format, its key unless that is in the same file, an OCSP response in DER."""

    certificate: str
    key: str | None = None
    ocsp: str | None = None


@dataclass(frozen=True)
class TLSOptions:
    """How a bind ends TLS; without `files` by the daemon's certificate.

    `modern`: TLS 1.3 only. `ca` and `clients`: whose certificates clients show, and whether they
    must; None: as the daemon's options say. `domains`: whose certificate is obtained by ACME.
    """

    files: tuple[CertificateFiles, ...] = ()
    modern: bool = False
    ca: str | None = None
    clients: str | None = None
    domains: tuple[str, ...] = ()

    @property
    def verify_mode(self) -> int | None:
        """The number of ``ssl.VerifyMode`` that was asked for, if one was."""
        if self.clients is not None:
            return _CLIENTS.index(self.clients)
        return None if self.ca is None else _CLIENTS.index("required")

    def parts(self) -> list[str]:
        """The options again, as they are written in a bind."""
        found = ["tls=modern"] if self.modern else []
        if self.domains:
            found += ["tls=acme", "domains=" + ",".join(self.domains)]
        for one in self.files:
            found.append("tls=" + quote(_told_apart(one.certificate)))
            if one.key is not None:
                found.append("key=" + quote(one.key))
            if one.ocsp is not None:
                found.append("ocsp=" + quote(one.ocsp))
        if self.ca is not None:
            found.append("ca=" + quote(self.ca))
        if self.clients is not None:
            found.append("clients=" + self.clients)
        return found if any(one.startswith("tls") for one in found) else ["tls", *found]


def parse_tls(words: Sequence[tuple[str, str]]) -> TLSOptions | None:
    """What pairs of option and value mean, if there are any. Raises ValueError."""
    files: list[CertificateFiles] = []
    said: dict[str, str] = {}
    behind_file = False
    for key, value in words:
        if key == "tls" and value not in _WORDS:
            files.append(CertificateFiles(value))
        elif key in ("key", "ocsp"):
            if not behind_file or not value or getattr(files[-1], key) is not None:
                raise ValueError(f"option {key!r} behind its tls=FILE only")
            files[-1] = replace(files[-1], **{key: value})
            continue
        elif key in ("domains", "ca", "clients") and (not value or key in said):
            raise ValueError(f"option {key!r} once, and with a value")
        else:
            said[key if key != "tls" else value] = value
        behind_file = key == "tls" and value not in _WORDS
    if words and "tls" not in dict(words):
        raise ValueError(f"option {words[0][0]!r} beside tls only")
    clients = said.get("clients")
    if clients not in (None, *_CLIENTS):
        raise ValueError(f"option 'clients' as one of {', '.join(_CLIENTS)}")
    if clients == "none" and "ca" in said:
        raise ValueError("option 'ca' without clients=none")
    if not words:
        return None
    domains = _domains(said, files)
    return TLSOptions(tuple(files), "modern" in said, said.get("ca"), clients, domains)


def _domains(said: Mapping[str, str], files: Sequence[CertificateFiles]) -> tuple[str, ...]:
    """The names of a certificate by ACME, none where there is none. Raises ValueError."""
    if ("acme" in said) != ("domains" in said):
        raise ValueError("options tls=acme and domains=NAMES together")
    if "acme" not in said:
        return ()
    if files:
        raise ValueError("tls=acme without tls=FILE")
    names = tuple(dict.fromkeys(said["domains"].lower().split(",")))
    for name in names:
        if _DOMAIN.match(name) is None:
            raise ValueError(f"option 'domains' of names such as a.example, apart by commas, not "
                             f"{name[:80]!r}{'; wildcards want DNS' if '*' in name else ''}")
    if len(names) > _MOST_DOMAINS:
        raise ValueError(f"option 'domains' of at most {_MOST_DOMAINS} names")
    return names


def _told_apart(path: str) -> str:
    """A file that is called like a word, by a path that is none."""
    return f"./{path}" if path in _WORDS else path
