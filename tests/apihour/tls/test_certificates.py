"""From options to a TLS context: what is loaded, and what is said of what cannot be."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from apihour.tls.certificates import make_contexts, verify
from tests.certificates import Authority


@pytest.fixture(autouse=True)
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The working directory holds ca.pem, both.pem, alone.pem and alone.key, other.key."""
    monkeypatch.chdir(tmp_path)
    made = Authority(tmp_path)
    made.issue("both")
    made.issue("alone", together=False)
    made.issue("other")
    (tmp_path / "text.pem").write_text("nothing of the kind\n")
    (tmp_path / "broken.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return made


def config(**options: Any) -> HostConfig:
    cfg = HostConfig()
    for name, value in options.items():
        cfg.set(name, value)
    return cfg


def context(bind: str = "127.0.0.1:0?tls", **options: Any) -> ssl.SSLContext:
    (made,) = make_contexts(config(**options), "https", parse_address(bind))
    return made


@pytest.mark.parametrize(("bind", "options"), [
    ("127.0.0.1:0?tls", {"certfile": "both.pem"}),
    ("127.0.0.1:0?tls", {"certfile": "alone.pem", "keyfile": "alone.key"}),
    ("127.0.0.1:0?tls=both.pem", {}),
    ("unix:x.sock?tls=alone.pem&key=alone.key", {"certfile": "text.pem"}),
])
def test_modern_tls_by_default(bind: str, options: dict[str, Any]) -> None:
    made = context(bind, **options)
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    assert made.options & ssl.OP_NO_RENEGOTIATION
    assert made.verify_mode == ssl.CERT_NONE
    for cipher in made.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["name"].startswith(("TLS_", "ECDHE-")), cipher["name"]


def test_ciphers_and_clients_certificates() -> None:
    made = context(certfile="both.pem", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256",
                   ca_certs="ca.pem", cert_reqs=2)
    assert {cipher["name"] for cipher in made.get_ciphers() if cipher["protocol"] == "TLSv1.2"} == {
        "ECDHE-ECDSA-AES128-GCM-SHA256"}
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert len(made.get_ca_certs()) == 1


def test_a_bind_says_whose_certificates_clients_show() -> None:
    made = context("127.0.0.1:0?tls=both.pem&ca=ca.pem")
    assert (made.verify_mode, len(made.get_ca_certs())) == (ssl.CERT_REQUIRED, 1)
    made = context("127.0.0.1:0?tls=both.pem&ca=ca.pem&clients=optional")
    assert made.verify_mode == ssl.CERT_OPTIONAL
    made = context("127.0.0.1:0?tls=both.pem&clients=none", ca_certs="ca.pem", cert_reqs=2)
    assert made.verify_mode == ssl.CERT_NONE
    made = context("127.0.0.1:0?tls=both.pem&clients=required", ca_certs="ca.pem")
    assert (made.verify_mode, len(made.get_ca_certs())) == (ssl.CERT_REQUIRED, 1)


def test_modern_is_tls_1_3_only() -> None:
    made = context("127.0.0.1:0?tls=modern", certfile="both.pem")
    assert made.minimum_version == ssl.TLSVersion.TLSv1_3


def test_the_hook_has_the_last_word() -> None:
    def hook(cfg: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        made = default()
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        return made

    assert context(certfile="both.pem", ssl_context=hook).minimum_version == (
        ssl.TLSVersion.TLSv1_3)


def fail(cfg: Any, default: Any) -> Any:
    raise RuntimeError("no secrets today")


@pytest.mark.parametrize(("bind", "options", "words"), [
    ("?tls", {}, ["bind https=127.0.0.1:0?tls: no certificate", "--certfile FILE or ?tls=FILE"]),
    ("?tls", {"keyfile": "other.key"}, ["no certificate"]),
    ("?tls", {"certfile": "missing.pem"}, ["--certfile 'missing.pem'", "No such file"]),
    ("?tls", {"certfile": "."}, ["--certfile '.'", "Is a directory"]),
    ("?tls", {"certfile": "text.pem"}, ["--certfile 'text.pem'", "a certificate in PEM"]),
    ("?tls", {"certfile": "broken.pem", "keyfile": "both.key"},
     ["--certfile 'broken.pem': OpenSSL cannot use"]),
    ("?tls", {"certfile": "alone.pem"}, ["--certfile 'alone.pem'", "a private key in PEM"]),
    ("?tls", {"certfile": "alone.pem", "keyfile": "gone.key"}, ["--keyfile 'gone.key'", "No such"]),
    ("?tls", {"certfile": "alone.pem", "keyfile": "other.key"},
     ["--keyfile 'other.key'", "does not belong to the certificate 'alone.pem'"]),
    ("?tls=gone.pem", {}, ["bind https=127.0.0.1:0?tls=gone.pem: tls 'gone.pem'", "No such"]),
    ("?tls=alone.pem&key=other.key", {}, [": key 'other.key'", "'alone.pem'"]),
    ("?tls", {"certfile": "both.pem", "ciphers": "NONE-SUCH"}, ["--ciphers 'NONE-SUCH'"]),
    ("?tls", {"certfile": "both.pem", "cert_reqs": 3}, ["--cert-reqs 3", "0 (none)"]),
    ("?tls", {"certfile": "both.pem", "cert_reqs": 1}, ["--cert-reqs 1", "--ca-certs FILE"]),
    ("?tls", {"certfile": "both.pem", "ca_certs": "gone.pem"},
     ["--ca-certs 'gone.pem'", "No such"]),
    ("?tls", {"certfile": "both.pem", "ca_certs": "broken.pem"}, ["--ca-certs 'broken.pem'"]),
    ("?tls=both.pem&ca=gone.pem", {}, [": ca 'gone.pem'", "No such"]),
    ("?tls=both.pem&clients=optional", {}, [": clients=optional: expected", "ca=FILE"]),
    ("?tls=both.pem&tls=gone.pem", {}, [": tls 'gone.pem'", "No such"]),
    ("?tls", {"ssl_context": fail}, ["https=", "ssl_context", "no secrets today"]),
    ("?tls", {"ssl_context": lambda cfg, default: None}, ["ssl_context returned None"]),
])
def test_what_is_wrong_is_one_line(bind: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        context("127.0.0.1:0" + bind, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_encrypted_key_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    authority.issue("secret", password=b"sesame")
    with pytest.raises(ConfigurationError, match=r"--certfile 'secret.pem': the key is encrypted"):
        context(certfile="secret.pem")


@pytest.mark.parametrize("option", ["certfile", "keyfile"])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.0.0.1:0?tls=both.pem"])
def test_files_that_no_bind_uses_are_an_error(option: str, bind: str) -> None:
    # gunicorn would turn TLS on everywhere: who meant that must not get plain text.
    with pytest.raises(ConfigurationError, match=f"--{option} 'both.pem': no bind uses it"):
        verify(config(**{option: "both.pem"}), {"http": [parse_address(bind)]})


def test_verify_loads_what_every_bind_needs() -> None:
    binds = {"plain": [parse_address(":80")],
             "https": [parse_address(":443?tls"), parse_address(":444?tls=gone.pem")]}
    with pytest.raises(ConfigurationError, match=r"gone\.pem"):
        verify(config(certfile="both.pem"), binds)
    verify(config(certfile="both.pem"), {**binds, "https": binds["https"][:1]})
    verify(config(), {"plain": binds["plain"]})
