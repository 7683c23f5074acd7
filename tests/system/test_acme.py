"""Certificates by ACME: real workers, a small ACME server that asks them by both challenges."""

import json
import ssl
import stat

import pytest

from tests.acme_server import AcmeServer
from tests.certificates import Authority
from tests.system.shell_support import ctl


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with AcmeServer(Authority(tmp_path_factory.mktemp("acme"))) as made:
        made.kinds = {"a.example": ["tls-alpn-01"], "www.a.example": ["dns-01", "tls-alpn-01"],
                      "b.example": ["http-01"]}
        yield made


@pytest.fixture(scope="module")
def daemon(apihour_module_daemon, server, system_apps):
    """Two workers; each kind of challenge is answered by whichever of them is asked."""
    made = apihour_module_daemon(
        "secure:Container", "--acme-directory", server.directory, "--acme-state", "state",
        "--acme-contact", "me@a.example", "-b", "asgi=127.0.0.1:0",
        "-b", "http=127.0.0.1:0?tls=acme&domains=a.example,www.a.example",
        "-b", "echo=127.0.0.1:0?tls=acme&domains=b.example", "--log-level", "debug",
        cwd=server.authority.directory, console=True, env={"PYTHONPATH": str(system_apps)})
    server.ports.update({"http-01": made.port("asgi"), "tls-alpn-01": made.port("http")})
    return made


def rows(daemon):
    return [row for worker in daemon.workers("serving")
            for row in daemon.ask(worker, "certs").rows]


def test_certificates_are_obtained_once_and_served_by_all_workers(daemon, server):
    daemon.wait(lambda: len(rows(daemon)) == 4 and all(
        row["issuer"] == "apihour test authority" for row in rows(daemon)), "the certificates")
    assert sorted(server.validated) == [
        ("a.example", "tls-alpn-01"), ("b.example", "http-01"), ("www.a.example", "tls-alpn-01")]
    # One worker at a time: an order each, and one that told that tls-alpn-01 is not offered.
    assert (server.counts["order new"], server.contact) == (3, ["mailto:me@a.example"])
    shown = {row["server"]: row for row in json.loads(ctl(daemon, "certs", "--json").stdout)}
    assert shown["http"]["names"] == "a.example www.a.example" and shown["http"]["workers"] == 2
    assert 89 < shown["echo"]["days_left"] <= 90 and not shown["echo"]["problem"]
    context = ssl.create_default_context(cafile=server.authority.path)
    for name, host in (("http", "www.a.example"), ("echo", "b.example")):
        with context.wrap_socket(daemon.connect(name), server_hostname=host) as sock:
            assert sock.version() == "TLSv1.3"
    assert "a certificate of b.example was obtained by http-01" in daemon.log
    assert "a certificate of a.example, www.a.example was obtained by tls-alpn-01" in daemon.log
    assert "Traceback" not in daemon.log and "[ERROR]" not in daemon.log


def test_its_files_are_its_owners(daemon, server):
    state = server.authority.directory / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert sorted(path.name.partition("-")[0] for path in state.glob("*.pem")) == [
        "a.example", "account", "b.example"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir() if path.is_file()} == {
        0o600}
    daemon.wait(lambda: not list((state / "pending").iterdir()), "challenges to be removed")


def test_a_handshake_for_a_challenge_that_is_not_asked_for_proves_nothing(daemon, server):
    context = ssl.create_default_context(cafile=server.authority.path)
    context.set_alpn_protocols(["acme-tls/1"])
    with context.wrap_socket(daemon.connect("http"), server_hostname="a.example") as sock:
        assert sock.selected_alpn_protocol() is None
