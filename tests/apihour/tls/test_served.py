"""What a TLS context serves: read off it, expired or not, whatever it asks of clients."""

from __future__ import annotations

import datetime
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apihour.tls.acme_proofs import self_signed
from apihour.tls.served import served_certificate
from tests.certificates import Authority


def context_of(cert: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    return context


def test_subject_names_issuer_and_days(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("server")
    found = served_certificate(context_of(cert))
    assert (found.subject, found.issuer) == ("server", "apihour test authority")
    assert found.names == ("localhost", "127.0.0.1")
    text = x509.load_pem_x509_certificate(cert.read_bytes())
    left = text.not_valid_after_utc.timestamp() - time.time()
    assert found.days_left == pytest.approx(left / 86400, abs=0.01)
    assert found.fingerprint == text.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize(("days", "late"), [(14.1, False), (13.9, True), (-1, True)])
def test_it_is_late_with_fewer_than_14_days(tmp_path: Path, days: float, late: bool) -> None:
    cert, _ = Authority(tmp_path).issue("server", days=days)
    assert served_certificate(context_of(cert)).is_late is late


@pytest.mark.parametrize(("hours", "late"), [(6.1, False), (5.9, True)])
def test_one_of_a_day_is_late_in_its_last_quarter(
    tmp_path: Path, hours: float, late: bool
) -> None:
    now = time.time()
    path = tmp_path / "short.pem"
    times = now + (hours - 24) * 3600, now + hours * 3600
    path.write_bytes(self_signed(["a.example"], "x", times))
    assert served_certificate(context_of(path)).is_late is late


def test_it_is_what_was_loaded_not_what_the_file_is_now(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("server")
    context = context_of(cert)
    before = served_certificate(context).fingerprint
    authority.issue("server")
    assert served_certificate(context).fingerprint == before
    assert served_certificate(context_of(cert)).fingerprint != before


def test_a_context_that_asks_clients_for_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("server")
    context = context_of(cert)
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    assert served_certificate(context).subject == "server"


def test_an_expired_one_of_nobody_in_particular(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Old, Inc.")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(
        key.public_key()).serial_number(1).not_valid_before(
        now - datetime.timedelta(days=20)).not_valid_after(
        now - datetime.timedelta(days=10)).sign(key, hashes.SHA256())
    path = tmp_path / "old.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    found = served_certificate(context_of(path))
    assert found.subject == "organizationName=Old, Inc." and found.names == ()
    assert -10.1 < found.days_left < -9.9


def test_a_context_without_any_says_so() -> None:
    with pytest.raises((OSError, ValueError)):
        served_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
