"""Certificates for tests, made anew each time: nothing of the kind is ever committed."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]

_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority with its files in `directory`; ``path`` is its certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "ca.pem"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("apihour test authority")
        certificate = _builder(self._name, self._name, self.key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).add_extension(_usage(signs=True), critical=True).sign(self.key, hashes.SHA256())
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.key.public_key())

    def issue(
        self, name: str, together: bool = True, password: bytes | None = None,
        names: Sequence[str] = (), days: float = 1.0,
    ) -> tuple[Path, Path]:
        """Make NAME.pem and NAME.key for 127.0.0.1 or `names`; with `together` the first has both.

        It expires in so many `days`.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        known: list[x509.GeneralName] = [x509.DNSName(one) for one in names] or [
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._signed(_name(name), key.public_key(), known, days)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        cert_path, key_path = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        chain = certificate.public_bytes(serialization.Encoding.PEM)
        key_path.write_bytes(secret)
        cert_path.write_bytes(chain + secret if together else chain)
        return cert_path, key_path

    def sign(self, key: ec.EllipticCurvePublicKey, names: Sequence[str], days: float) -> str:
        """A certificate of a key of somebody else's, in PEM."""
        made = self._signed(_name(names[0]), key, [x509.DNSName(one) for one in names], days)
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName], days: float,
    ) -> x509.Certificate:
        return _builder(subject, self._name, key, days).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        ).add_extension(self._identifier, critical=False).add_extension(
            _usage(signs=False), critical=True
        ).sign(self.key, hashes.SHA256())

    def client(self, cert: Path | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority alone."""
        context = ssl.create_default_context(cafile=str(self.path))
        if cert is not None:
            context.load_cert_chain(cert)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float = 1.0
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(
        key
    ).serial_number(x509.random_serial_number()).not_valid_before(now - 90 * _DAY).not_valid_after(
        now + days * _DAY
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )
