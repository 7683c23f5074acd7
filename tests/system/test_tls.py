"""TLS ended by the core, for every protocol alike: real workers, real clients."""

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import time

import aiohttp
import pytest

from apihour.testing import Load
from tests.certificates import Authority
from tests.system.shell_support import ctl
from tests.system.support import deploy, echo, refused, run

OPTIONS = ("--certfile", "server.pem", "--tls-handshake-timeout", "1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.issue("server")
    made.issue("client")
    return made


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def daemon(request, apihour_module_daemon, authority, system_apps):
    """Both workers of one daemon on each kind of loop, in the directory of the certificates."""
    (authority.directory / "ballast").write_bytes(os.urandom(3 << 20))
    return apihour_module_daemon(
        "secure:Container", *OPTIONS, "--log-level", "debug", cwd=authority.directory,
        console=True, env={"LOOP": request.param, "PYTHONPATH": str(system_apps)})


def secure(daemon, authority, name="http", **options):
    """A blocking TLS client of a server."""
    return authority.client(**options).wrap_socket(
        daemon.connect(name), server_hostname="127.0.0.1")


def curl(daemon, authority, path="/", *words, name="http"):
    address = daemon.address(name)
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", "--cacert", authority.path, *words,
         f"https://{address}{path}"], capture_output=True, check=True)
    return done.stdout


def rows(daemon, command):
    return [row for worker in daemon.workers("serving")
            for row in daemon.ask(worker, command).rows]


def certificate_of(daemon, authority):
    with secure(daemon, authority) as sock:
        return dict(pair for (pair,) in sock.getpeercert()["subject"])["commonName"]


def test_every_server_knows_that_it_is_https(daemon, authority):
    host = daemon.address("http")
    direct = json.loads(curl(daemon, authority))
    assert (direct["scheme"], direct["secure"], direct["peer"]) == ("https", True, False)
    assert json.loads(curl(daemon, authority, "/app")) == {
        "scheme": "https", "secure": True, "url": f"https://{host}/app"}
    assert curl(daemon, authority, name="asgi") == b"https"


def test_websockets(daemon, authority):
    async def talk(name, path):
        url = f"wss://{daemon.address(name)}{path}"
        async with (aiohttp.ClientSession() as session,
                    session.ws_connect(url, ssl=authority.client()) as websocket):
            await websocket.send_str("hello")
            return await websocket.receive_str(timeout=10)

    assert asyncio.run(talk("http", "/ws")) == "https hello"
    assert asyncio.run(talk("asgi", "/")) == "wss hello"


def test_a_file_and_an_echo_come_whole(daemon, authority):
    ballast = (authority.directory / "ballast").read_bytes()
    assert curl(daemon, authority, "/file") == ballast
    with secure(daemon, authority, "echo") as sock:
        for _ in range(3):
            echo(sock, ballast[:200_000])


def test_http_2_is_agreed_on_by_http_servers_only(daemon, authority):
    for name, expected in (("http", "h2"), ("asgi", "h2"), ("echo", None)):
        context = authority.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(daemon.connect(name), server_hostname="127.0.0.1") as sock:
            assert sock.selected_alpn_protocol() == expected
            assert sock.version() == "TLSv1.3"


def test_a_refusal_reaches_who_is_still_sending(daemon, authority):
    # TLS has no half-close; closing at once would reset the connection under the answer.
    with secure(daemon, authority) as sock:
        sock.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        sock.sendall(bytes(50000))
        time.sleep(0.1)
        sock.sendall(bytes(50000))
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")
        began = time.monotonic()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            while sock.recv(65536) or True:
                sock.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() - began < 5


def test_what_fails_its_handshake_is_seen_counted_and_cut(daemon, authority):
    def failed():
        return sum(row["value"] for row in rows(daemon, "statistics")
                   if row["name"] == "handshakes_failed" and row["server"] == "echo")

    before = failed()
    with daemon.connect("echo") as stalled, secure(daemon, authority, "echo") as good:
        echo(good)
        states = {row["state"]: row["tls"] for row in rows(daemon, "conns")
                  if row["server"] == "echo"}
        assert states == {"handshake": "", "open": "TLSv1.3"}
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 3000, b"\x16\x03\x01\xff\xff"):
            with daemon.connect("echo") as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert silent_end(sock)
        assert silent_end(stalled)
        echo(good)
    daemon.wait(lambda: failed() == before + 4, "the failures to be counted")
    assert {row["address"] for row in rows(daemon, "servers")} == {
        daemon.address(name) + "?tls" for name in ("http", "asgi", "echo")}
    assert f"Listening at: echo={daemon.address('echo')}?tls" in daemon.log
    assert "Traceback" not in daemon.log
    assert "[ERROR]" not in daemon.log
    assert sum("TLS handshake of" in line for line in daemon.lines) <= 2  # one per worker


def silent_end(sock):
    """Whether the server closes; it may say what is wrong in an alert, but no more."""
    try:
        data = b""
        while piece := sock.recv(100):
            data += piece
    except ConnectionError:
        pass
    return data[:1] in (b"", b"\x15")


@pytest.fixture
def site(app):
    """An authority in the copy of the applications, which may be changed."""
    made = Authority(app)
    made.issue("first")
    (app / "first.pem").rename(app / "server.pem")
    return made


@pytest.mark.parametrize("template", [(), ("--template",)])
def test_a_reload_loses_nothing_and_serves_the_new_certificate(
    apihour_daemon, site, app, template
):
    daemon = apihour_daemon("secure:Container", *OPTIONS, *template, cwd=app)
    context = site.client()
    assert certificate_of(daemon, site) == "first"
    with (Load("keep-alive", daemon.address("http"), tls=context, connections=3,
               think=0.01) as kept,
          Load("connection", daemon.address("http"), tls=context, connections=2,
               think=0.01) as fresh,
          Load("tcp", daemon.address("echo"), tls=context, connections=2) as exchanges):
        for load in (kept, fresh, exchanges):
            load.wait_answers(10)
        site.issue("second")
        (app / "second.pem").rename(app / "server.pem")
        deploy(app, "2")
        assert daemon.reload().ok
        daemon.wait(lambda: certificate_of(daemon, site) == "second", "the new certificate")
        for load in (kept, fresh, exchanges):
            load.wait_answers(10)
        assert json.loads(curl(daemon, site))["version"] == "2"
    for load in (kept, fresh, exchanges):
        assert not load.report.lost, load.report
    assert "Traceback" not in daemon.log


def test_a_silent_client_does_not_hold_up_its_retiring_worker(apihour_daemon, site, app):
    """Clients with an idle connection in a pool do not answer close_notify."""
    daemon = apihour_daemon("secure:Container", *OPTIONS, "--linger", "0.2",
                            "--graceful-timeout", "20", workers=1, cwd=app)
    with secure(daemon, site) as idle, daemon.connect("http") as stalled:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - began < 8
        assert idle.recv(1000) == b""  # an end, and not a reset
        assert stalled.recv(1000) == b""


@pytest.mark.parametrize("how", ["broken", "mismatched", "gone"])
def test_a_bad_certificate_refuses_the_reload(apihour_daemon, site, app, how):
    daemon = apihour_daemon("secure:Container", *OPTIONS, workers=1, cwd=app)
    if how == "gone":
        (app / "server.pem").unlink()
    elif how == "broken":
        (app / "server.pem").write_text("nothing of the kind\n")
    else:
        chain, _ = site.issue("second", together=False)
        _, key = site.issue("third")
        (app / "server.pem").write_text(chain.read_text() + key.read_text())
    outcome = daemon.reload()
    assert not outcome.ok
    assert "'server.pem'" in outcome.error
    assert "\n" not in outcome.error
    assert certificate_of(daemon, site) == "first"
    line = refused("check", "secure:Container", *OPTIONS, cwd=app)
    assert line in outcome.error


def test_check_says_what_is_encrypted(site, app):
    result = run("check", "secure:Container", *OPTIONS, "-b", "echo=unix:x.sock?tls=server.pem",
                 cwd=app)
    assert "127.0.0.1:0?tls\n" in result.stdout
    assert "unix:x.sock?tls=server.pem" in result.stdout


def test_clients_certificates_can_be_required(apihour_daemon, site, app):
    client, _ = site.issue("client")
    daemon = apihour_daemon(
        "secure:Container", *OPTIONS, "--ca-certs", "ca.pem", "--cert-reqs", "2", workers=1,
        cwd=app)
    assert json.loads(curl(daemon, site, "/", "--cert", str(client)))["peer"] is True
    with pytest.raises(subprocess.CalledProcessError):
        curl(daemon, site)


def test_who_accepts_by_itself_is_refused(apihour_daemon, site, app):
    line = refused("ancestors:SocketsContainer", "--no-console", *OPTIONS, "-w", "1",
                   "-b", "a=127.0.0.1:0?tls", "-b", "b=127.0.0.1:0", cwd=app)
    assert "server 'a'" in line and "without tls" in line


def test_sessions_are_resumed_whatever_the_worker(daemon, authority):
    def accepted():
        return {row["worker"]: row["accepted"] for row in rows(daemon, "servers")
                if row["name"] == "echo"}

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.client()
        context.minimum_version = context.maximum_version = version
        session, reused, before, held = None, [], accepted(), []
        while len(reused) < 5 or any(accepted()[one] == before[one] for one in before):
            sock = context.wrap_socket(
                daemon.connect("echo"), server_hostname="127.0.0.1", session=session)
            echo(sock)
            held.append(sock)  # who has fewer connections takes the next
            reused.append(sock.session_reused)
            session = session or sock.session
        assert reused == [False] + [True] * (len(reused) - 1)
        for sock in held:
            sock.close()


def test_certificates_are_swapped_in_place(daemon, authority):
    """Under load, by files and by the shell; what is broken is refused, and nobody notices."""
    served = authority.directory / "server.pem"
    before = certificate_of(daemon, authority)
    context = authority.client()
    with (secure(daemon, authority, "echo") as open_before,
          Load("connection", daemon.address("http"), tls=context, connections=2) as fresh,
          Load("keep-alive", daemon.address("http"), tls=context, think=0.01) as kept):
        for number in range(3):
            authority.issue(f"swap{number}")
            (authority.directory / f"swap{number}.pem").rename(served)
            done = ctl(daemon, "certs", "reload", "--json")
            assert done.returncode == 0, done.stderr
            assert {row["subject"] for row in json.loads(done.stdout)} == {f"swap{number}"}
            for load in (fresh, kept):
                load.wait_answers(5)
        good = served.read_bytes()
        served.write_bytes(good[:400])
        done = ctl(daemon, "certs", "reload")
        assert done.returncode == 1 and "the certificate from before is served on" in done.stderr
        assert certificate_of(daemon, authority) == "swap2"
        authority.issue(before)
        (authority.directory / f"{before}.pem").rename(served)
        daemon.wait(lambda: {(row["subject"], row["workers"], row["problem"]) for row in json.loads(
            ctl(daemon, "certs", "--json").stdout)} == {(before, 2, "")}, "files to be noticed")
        echo(open_before)
    for load in (fresh, kept):
        assert not load.report.lost, load.report
    assert "Traceback" not in daemon.log


def test_certs_names_what_each_bind_serves(daemon, authority):
    done = ctl(daemon, "certs", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and {row["server"] for row in found} >= {"http", "echo"}
    for row in found:
        assert (row["issuer"], row["names"]) == ("apihour test authority", "localhost 127.0.0.1")
        assert row["subject"] == certificate_of(daemon, authority) and row["workers"] == 2
        assert row["days_left"] > 0 and row["expires"].endswith("Z") and not row["problem"]
    assert "days_left" in ctl(daemon, "certs", "--sort", "nonsense").stderr
    done = ctl(daemon, "health", "--json")
    wrong = {row["name"]: row["detail"] for row in json.loads(done.stdout)
             if row["status"].startswith("not")}
    assert done.returncode == 1 and wrong.keys() >= {"certificate of http", "certificate of echo"}
    assert re.search(r" 1\.0 days left; one that is renewed", wrong["certificate of http"])
    days = [row["value"] for row in json.loads(ctl(daemon, "metrics", "--json").stdout)
            if row["name"] == "apihour_certificate_days_left"]
    assert len(days) == len(found) and all(0.9 < one <= 1 for one in days)
