"""Certificates that are swapped in place: what is taken, what is refused, what is said."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from apihour.tls.renewal import CertificateWatch, Told
from apihour.tls.served import served_certificate
from apihour.tls.termination import Terminator
from tests.apihour.loops import Run, run
from tests.apihour.tls.test_choosing import shake, subject, terminator
from tests.certificates import Authority

__all__ = ["run"]

log = logging.getLogger("test.tls.renewal")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server", days=60)
    return made


@pytest.fixture
def made(authority: Authority) -> Terminator:
    return terminator(authority, "tls=@server.pem&key=@server.key&ca=@ca.pem&clients=optional")


@pytest.fixture
def watch(made: Terminator, tmp_path: Path) -> CertificateWatch:
    return CertificateWatch([made], Told(tmp_path), log)


def swap(authority: Authority, name: str, days: float = 60) -> None:
    authority.issue(name, days=days)
    for kind in ("pem", "key"):
        os.replace(authority.directory / f"{name}.{kind}", authority.directory / f"server.{kind}")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == log.name]


def test_what_has_changed_is_taken_when_it_looks_the_same_twice(
    authority: Authority, made: Terminator, watch: CertificateWatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made.offer(["http/1.1"])
    watch.look()
    first = made.context
    swap(authority, "second")
    watch.look()
    assert made.context is first  # its key may not be there yet
    watch.look()
    assert made.context is not first
    assert subject(made, authority, "localhost") == "second"
    client = authority.client()
    client.set_alpn_protocols(["http/1.1"])
    assert shake(made.context, client, "localhost").selected_alpn_protocol() == "http/1.1"
    watch.look()
    watch.look()
    (line,) = lines(caplog)
    assert "new certificates are served: second (60 days, " in line
    assert made.loaded == made.stamps() and made.problem == ""


def test_one_worker_speaks_for_all(
    authority: Authority, made: Terminator, watch: CertificateWatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    other = CertificateWatch(
        [terminator(authority, made.where.partition("?")[2])], Told(tmp_path), log)
    swap(authority, "second", days=13)
    for _ in range(2):
        watch.look()
        other.look()
    taken, warned = lines(caplog)
    assert "new certificates" in taken
    assert warned == (f"{made.where}: the certificate of second in "
                      f"'{authority.directory}/server.pem' expires in 13.0 days")


@pytest.mark.parametrize("broken", ["text", "half", "key", "gone"])
def test_what_cannot_be_used_is_refused_with_one_line(
    authority: Authority, made: Terminator, watch: CertificateWatch, broken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pem = authority.directory / "server.pem"
    if broken == "text":
        pem.write_text("no certificate\n")
    elif broken == "half":
        pem.write_bytes(pem.read_bytes()[:300])
    elif broken == "key":
        authority.issue("other")
        os.replace(authority.directory / "other.key", authority.directory / "server.key")
    else:
        pem.unlink()
    for _ in range(5):
        watch.look()
    (line,) = lines(caplog)
    assert "server." in line and line.endswith("the certificate from before is served on")
    assert made.problem and line.startswith(made.problem)
    assert subject(made, authority, "localhost") == "server"
    assert watch.reload() == [made.problem]
    swap(authority, "third")
    for _ in range(2):
        watch.look()
    assert subject(made, authority, "localhost") == "third"
    assert made.problem == "" and watch.reload() == []
    assert len([one for one in caplog.records if one.levelno > logging.INFO]) == 1


def test_what_may_not_be_looked_at_is_left_to_a_reload(
    authority: Authority, made: Terminator, watch: CertificateWatch,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    """Root's, whose rights the worker has dropped since it read them."""
    look = os.stat

    def refuse(path: object, **options: Any) -> os.stat_result:
        if "server." in str(path):
            raise PermissionError(13, "Permission denied")
        return look(path, **options)  # type: ignore[call-overload, no-any-return]

    swap(authority, "second")
    monkeypatch.setattr("apihour.tls.termination.os.stat", refuse)
    for _ in range(3):
        watch.look()
    assert lines(caplog) == [] and made.problem == ""
    assert subject(made, authority, "localhost") == "server"


def test_a_warning_a_day(
    authority: Authority, watch: CertificateWatch, tmp_path: Path, made: Terminator,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    now = time.time()
    for days in range(60):
        monkeypatch.setattr("apihour.tls.renewal.time.time", lambda days=days: now + days * 86400)
        for _ in range(3):
            watch.look()
    said = lines(caplog)
    assert 13 <= len(said) <= 14
    assert "expires in 13." in said[0] or "expires in 14.0" in said[0]
    monkeypatch.setattr("apihour.tls.renewal.time.time", lambda: now + 63 * 86400)
    watch.look()
    assert "has expired 3.0 days ago" in lines(caplog)[-1]
    assert served_certificate(made.context).subject == "server"
    assert len(list(tmp_path.glob("told.*"))) <= 62


def test_clients_lose_nothing_while_certificates_are_swapped(
    run: Run, authority: Authority, made: Terminator, watch: CertificateWatch
) -> None:
    """Handshakes go on, and a connection from before the swaps stays."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    class Echo(asyncio.StreamReaderProtocol):
        def __init__(self) -> None:
            super().__init__(asyncio.StreamReader(), serve)

    async def body() -> None:
        loop = asyncio.get_running_loop()
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        context: ssl.SSLContext = authority.client()
        served: list[asyncio.Future[object]] = []

        async def accept() -> None:
            while True:
                one, _ = await loop.sock_accept(sock)
                served.append(asyncio.ensure_future(
                    loop.connect_accepted_socket(Echo, one, ssl=made.context)))

        accepting = asyncio.ensure_future(accept())
        seen = set()

        async def ask() -> None:
            reader, writer = await asyncio.open_connection(*sock.getsockname(), ssl=context)
            seen.add(str(writer.get_extra_info("peercert")["subject"]))
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 20) == b"x"
            writer.transport.abort()

        reader, writer = await asyncio.open_connection(*sock.getsockname(), ssl=context)
        for number in range(20):
            asking = [asyncio.ensure_future(ask()) for _ in range(3)]
            await asyncio.sleep(0)
            swap(authority, f"n{number}")
            assert watch.reload() == []
            await asyncio.gather(*asking)
        writer.write(b"still")
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"still"
        writer.transport.abort()
        accepting.cancel()
        await asyncio.gather(*served)
        sock.close()
        assert len(seen) >= 10

    run(body)
