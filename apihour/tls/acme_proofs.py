"""Certificates that we sign ourselves: until one arrives, and to prove a name (RFC 8737)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

__all__ = ["proof", "self_signed"]

_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier, RFC 8737 6.1
_OCTETS = b"\x04\x20"  # DER: an octet string of 32 bytes


def self_signed(
    domains: Sequence[str], issuer: str, times: tuple[float, float],
    extension: x509.UnrecognizedExtension | None = None,
) -> bytes:
    """A certificate of these names and its key, in PEM; `times` of day in seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    starts, ends = (datetime.datetime.fromtimestamp(one, datetime.UTC) for one in times)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(
        key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(
        starts).not_valid_after(ends).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(one) for one in domains]), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())


def proof(domain: str, key_authorization: str, times: tuple[float, float]) -> bytes:
    """The certificate of a tls-alpn-01 challenge, and its key (RFC 8737 3)."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return self_signed([domain], "apihour: ACME validation", times,
                       x509.UnrecognizedExtension(_IDENTIFIER, _OCTETS + digest))
