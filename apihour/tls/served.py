"""The certificate that a TLS context really serves, asked of it as a client would.

Rules:

- What counts is what clients get, not what the file says by now: one that was renewed on disk
  and not reloaded is still the old one. So the context is asked, by a handshake in memory.
- The standard library decodes only certificates it has verified. So the certificate itself is
  trusted, whoever issued it, and its time is not looked at: an expired one is shown too.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["ServedCertificate", "served_certificate"]

# X509_V_FLAG_PARTIAL_CHAIN and X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h.
_FLAGS = 0x80000 | 0x200000
_TURNS = 10  # exchanges of a handshake; TLS needs four
_DAY = 86400.0
_FEWEST = 14.0  # days; certificates of 90 days are renewed at 30, this is two weeks late


@dataclass(frozen=True)
class ServedCertificate:
    """What a certificate says (RFC 5280); `starts` and `expires` as times of day in seconds."""

    subject: str
    names: tuple[str, ...]
    issuer: str
    expires: float
    fingerprint: str
    dns_names: tuple[str, ...] = ()
    starts: float = 0.0

    @property
    def is_late(self) -> bool:
        """Whether it should have been renewed: 14 days are left, or a quarter of its time."""
        return self.days_left < min(_FEWEST, (self.expires - self.starts) / _DAY / 4)

    @property
    def days_left(self) -> float:
        """Days until it expires; negative since it has."""
        return (self.expires - time.time()) / _DAY


def served_certificate(context: ssl.SSLContext) -> ServedCertificate:
    """What clients of `context` get. Raises OSError (of which ssl.SSLError is one), ValueError."""
    encoded = _handshake(context, _client()).getpeercert(binary_form=True)
    if not encoded:
        raise ValueError("the context serves no certificate")
    trusting = _client()
    trusting.verify_mode = ssl.CERT_REQUIRED
    trusting.load_verify_locations(cadata=encoded)
    trusting.verify_flags = ssl.VerifyFlags(_FLAGS)
    told: Any = _handshake(context, trusting).getpeercert() or {}
    names = [(kind, str(value)) for kind, value in told.get("subjectAltName", ())]
    return ServedCertificate(
        subject=_name(told.get("subject", ())) or next((name for _, name in names), ""),
        names=tuple(name for _, name in names),
        dns_names=tuple(name for kind, name in names if kind == "DNS"),
        issuer=_name(told.get("issuer", ())),
        expires=float(ssl.cert_time_to_seconds(told["notAfter"])),
        fingerprint=hashlib.sha256(encoded).hexdigest(),
        starts=float(ssl.cert_time_to_seconds(told["notBefore"])),
    )


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """A client that has shaken hands with `server`, all in memory.

    The client is done first: a server that wants a certificate of it refuses too late.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(_TURNS):
        try:
            asking.do_handshake()
            return asking
        except ssl.SSLWantReadError:
            pass
        try:
            answering.do_handshake()
        except ssl.SSLWantReadError:
            pass
    raise ssl.SSLError("the handshake does not come to an end")


def _name(parts: Any) -> str:
    """A distinguished name by its common name, else by all it has."""
    pairs = [pair for part in parts for pair in part]
    common = [value for key, value in pairs if key == "commonName"]
    return common[-1] if common else ", ".join(f"{key}={value}" for key, value in pairs)
