"""OpenSSL by ctypes: fails when CPython's contexts or OpenSSL's numbers are others."""

from __future__ import annotations

import datetime
import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from apihour.bind.addresses import parse_address
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from apihour.tls import libssl
from apihour.tls.certificates import make_contexts
from apihour.tls.tickets import TicketKeys
from tests.apihour.tls.test_choosing import shake, terminator
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server")
    made.issue("client")
    return made


def test_this_python_and_this_openssl_are_known() -> None:
    assert libssl.why_unreachable() == ""


@pytest.mark.parametrize("change", [
    ("_SEEN", ((3, 0), (3, 1))), ("KEYS_SIZE", 48), ("_pointer", lambda context: 0)])
def test_what_is_not_as_it_was_is_left_alone(
    change: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value = change
    libssl._reached.cache_clear()
    monkeypatch.setattr(libssl, name, value)
    if name == "_pointer":
        monkeypatch.setattr(libssl, "_Library", lambda: Other())
    try:
        assert libssl.why_unreachable()
        with pytest.raises(NotImplementedError):
            libssl.set_ticket_keys(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytes(80))
    finally:
        libssl._reached.cache_clear()


class Other:
    """A library whose contexts say something else of themselves."""

    def options(self, pointer: object) -> int:
        return 0


def session(
    server: ssl.SSLContext, client: ssl.SSLContext, old: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a session was resumed, and the one to resume next time."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname="localhost", session=old)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for one in (asking, answering):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                continue
    answering.write(b"x")
    assert asking.read(1) == b"x"  # TLS 1.3 sends its tickets before
    return bool(asking.session_reused), asking.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_at_another_worker(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    client = authority.client()
    client.minimum_version = client.maximum_version = version
    workers = [terminator(authority, "tls=@server.pem") for _ in range(2)]
    first, ticket = session(workers[0].context, client)
    assert not first
    assert session(workers[0].context, client, ticket)[0]
    assert not session(workers[1].context, client, ticket)[0]  # as it is without our keys
    for one in workers:
        keys = TicketKeys(tmp_path / "tickets.json", 3600)
        assert keys.look() and not keys.look()
        keys.seal(one.context, "http")
    _, ticket = session(workers[0].context, client)
    assert session(workers[1].context, client, ticket)[0]
    renewed = terminator(authority, "tls=@server.pem")
    keys.seal(renewed.context, "http")
    assert session(renewed.context, client, ticket)[0]  # also with another certificate's context
    assert (tmp_path / "tickets.json").stat().st_mode & 0o777 == 0o600


def test_a_session_is_not_taken_to_where_clients_show_more(
    authority: Authority, tmp_path: Path
) -> None:
    """Who has shown no certificate at one bind must not get by at one that requires it."""
    open_to_all = terminator(authority, "tls=@server.pem")
    strict = terminator(authority, "tls=@server.pem&ca=@ca.pem")
    keys = TicketKeys(tmp_path / "tickets.json", 3600)
    keys.look()
    for one, bind in ((open_to_all, "http"), (strict, "http")):
        keys.seal(one.context, bind)
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    _, ticket = session(open_to_all.context, client)
    with pytest.raises(ssl.SSLError):
        session(strict.context, client, ticket)
    shown = authority.client(authority.directory / "client.pem")
    _, ticket = session(strict.context, shown)
    assert session(strict.context, shown, ticket)[0]


def test_the_secret_is_replaced_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tickets.json"
    workers = [TicketKeys(path, 100) for _ in range(3)]
    assert all(one.look() for one in workers)
    first = path.read_text()
    assert not any(one.look() for one in workers)
    now = time.time()
    monkeypatch.setattr("apihour.tls.tickets.time.time", lambda: now + 101)
    assert all(one.look() for one in workers) and not any(one.look() for one in workers)
    assert path.read_text() != first
    assert len({one._secret for one in workers}) == 1
    for broken in ("", "[]", '{"since": "x"}', '{"since": 1e400, "secret": ""}'):
        path.write_text(broken)
        assert workers[0].look()


def test_groups_are_those_that_are_recommended(authority: Authority) -> None:
    made = terminator(authority, "tls=@server.pem").context
    for group, works in (("prime256v1", True), ("secp384r1", True), ("secp521r1", False)):
        client = authority.client()
        client.set_ecdh_curve(group)
        if works:
            shake(made, client, "localhost")
        else:
            with pytest.raises(ssl.SSLError):
                shake(made, client, "localhost")
    with pytest.raises(ValueError, match="groups 'nonsense'"):
        libssl.set_groups(made, "nonsense")
    with pytest.raises(ValueError, match="3 bytes of ticket keys; expected 80"):
        libssl.set_ticket_keys(made, b"abc")


def respond(authority: Authority, name: str, days: float = 1) -> Path:
    """An OCSP response for a certificate of the authority."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(authority.path.read_bytes())
    found = x509.load_pem_x509_certificate((authority.directory / f"{name}.pem").read_bytes())
    response = ocsp.OCSPResponseBuilder().add_response(
        cert=found, issuer=issuer, algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD, this_update=now - datetime.timedelta(days=3),
        next_update=now + datetime.timedelta(days=days), revocation_time=None,
        revocation_reason=None,
    ).responder_id(ocsp.OCSPResponderEncoding.NAME, issuer).sign(authority.key, hashes.SHA256())
    path = authority.directory / f"{name}.ocsp"
    path.write_bytes(response.public_bytes(serialization.Encoding.DER))
    return path


def asked(authority: Authority, context: ssl.SSLContext) -> str:
    """What ``openssl s_client -status`` says of the context's certificate."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}",
             "-status", "-servername", "localhost", "-CAfile", authority.path],
            input=b"x", capture_output=True, timeout=60)
        thread.join()
    return done.stdout.decode()


def test_a_response_is_stapled_when_its_file_is_given(authority: Authority) -> None:
    path = respond(authority, "server")
    made = terminator(authority, f"tls=@server.pem&ocsp={path}")
    assert str(path) in made._watched
    said = asked(authority, made.context)
    assert "OCSP Response Status: successful" in said and "Cert Status: good" in said
    assert "Verify return code: 0 (ok)" in said
    assert "OCSP response: no response sent" in asked(
        authority, terminator(authority, "tls=@server.pem").context)
    respond(authority, "server", days=-1)
    made.renew(())
    assert "OCSP response: no response sent" in asked(authority, made.context)
    gc.collect()
    assert len(libssl._library().staples) == 0


@pytest.mark.parametrize(("file", "words"), [
    ("client.ocsp", "is of another certificate"),
    ("server.pem", "it cannot be read; expected an OCSP response in DER"),
    ("gone", "No such file or directory; expected an OCSP response")])
def test_a_response_that_cannot_be_used_is_refused(
    authority: Authority, file: str, words: str
) -> None:
    respond(authority, "client")
    address = parse_address(
        f"127.0.0.1:0?tls={authority.directory}/server.pem&ocsp={authority.directory}/{file}")
    with pytest.raises(ConfigurationError, match=words) as caught:
        make_contexts(HostConfig(), "https", address)
    assert ": ocsp '" in str(caught.value)


def test_it_is_let_go_without_a_crash() -> None:
    """Contexts, keys and callbacks in a process of their own, which ends well."""
    program = (
        "import ssl, os\n"
        "from apihour.tls import libssl\n"
        "for number in range(1000):\n"
        "    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        "    libssl.set_ticket_keys(context, os.urandom(80))\n"
        "    libssl.staple(context, bytes(1000))\n"
        "    libssl.set_groups(context, 'X25519')\n"
        "del context\n"
        "assert not libssl._library().staples\n")
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ, timeout=60)


def test_who_offers_one_protocol_alone_is_seen_before_a_certificate_is_chosen(
    authority: Authority,
) -> None:
    made = terminator(authority, "tls=@server.pem").context
    seen: list[bool] = []
    made.sni_callback = lambda connection, name, context: seen.append(
        libssl.offers_only(connection, b"acme-tls/1"))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for offered in ([], ["acme-tls/1"], ["h2", "acme-tls/1"], ["acme-tls/1", "h2"], ["x"],
                        ["acme-tls/2"], ["x" * 200]):
            client = authority.client()
            client.maximum_version = version
            if offered:
                client.set_alpn_protocols(offered)
            shake(made, client, "localhost")
            assert seen.pop() is (offered == ["acme-tls/1"])
