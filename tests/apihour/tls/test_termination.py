"""The TLS stage with real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from apihour.ipc.runtime import Runtime
from apihour.ops.connection_row import connection_row
from apihour.tls import termination
from apihour.tls.termination import TLSFacts
from apihour.worker.connections import AcceptedConnection, ConnectionTable
from apihour.worker.process import HostWorker
from apihour.worker.serving import Serving
from apihour.worker.stages import StagedAcceptor
from tests.apihour.loops import Run, run, wait_until
from tests.certificates import Authority

__all__ = ["run"]

log = logging.getLogger("test.tls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.issue("server")
    made.issue("client")
    return made


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Buffered(asyncio.BufferedProtocol):
    """The same by the other kind of protocol."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = bytearray(64)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class EchoServer:
    protocol = "tcp"

    def __init__(self, kind: type[asyncio.BaseProtocol]) -> None:
        self.kind = kind
        self.fail = False
        self.states: list[tuple[str, Any]] = []

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        self.states.append((conn.state, conn.tls))
        if self.fail:
            raise RuntimeError("no protocol today")
        return self.kind()


class House:
    """One acceptor that ends TLS, and clients of it."""

    def __init__(
        self, authority: Authority, kind: type[asyncio.BaseProtocol], timeout: float, **options: Any
    ) -> None:
        self.authority = authority
        cfg = HostConfig()
        cfg.set("certfile", str(authority.directory / "server.pem"))
        cfg.set("tls_handshake_timeout", timeout)
        for name, value in options.items():
            cfg.set(name, value)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.listener = Listener("echo", parse_address("127.0.0.1:0?tls"), sock, False)
        self.terminator = termination.prepare(cfg, [self.listener])[self.listener]
        self.server = EchoServer(kind)
        self.table = ConnectionTable("1.1")
        self.acceptor = StagedAcceptor(
            "echo", sock, self.server,  # type: ignore[arg-type]
            self.table, asyncio.get_running_loop(), log, tls=self.terminator,
        )
        self.acceptor.start()
        self.writers: list[asyncio.StreamWriter] = []

    async def client(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            *self.listener.getsockname(), ssl=context or self.authority.client())
        self.writers.append(writer)
        return reader, writer

    async def plain(self, data: bytes = b"") -> asyncio.StreamReader:
        """A client that connects and says something else than hello."""
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        self.writers.append(writer)
        writer.write(data)
        return reader

    async def only_row(self) -> AcceptedConnection:
        await wait_until(lambda: len(self.table) == 1)
        (conn,) = self.table
        return conn


@contextlib.asynccontextmanager
async def house(
    authority: Authority, kind: type[asyncio.BaseProtocol] = Echo, timeout: float = 10.0,
    **options: Any,
) -> AsyncIterator[House]:
    made = House(authority, kind, timeout, **options)
    try:
        yield made
    finally:
        made.acceptor.stop()
        for writer in made.writers:
            writer.transport.abort()
        for conn in made.table:
            conn.close()
        await wait_until(lambda: not len(made.table))
        made.listener.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection, in whatever way, without a word."""
    try:
        return not await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return True


@pytest.mark.parametrize("kind", [Echo, Buffered])
def test_facts_are_known_before_the_protocol_is_made(
    run: Run, authority: Authority, kind: type[asyncio.BaseProtocol]
) -> None:
    async def body() -> None:
        async with house(authority, kind) as h:
            h.terminator.offer(["http/1.1"])
            context = authority.client()
            context.set_alpn_protocols(["h2", "http/1.1"])
            reader, writer = await h.client(context)
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), 10) == b"hello"
            conn = await h.only_row()
            facts = conn.tls
            assert facts == TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "http/1.1")
            assert h.server.states == [("open", facts)]
            assert conn.alpn == "http/1.1"
            record = connection_row(conn, "1.1")
            assert record.tls == "TLSv1.3"
            assert record.bytes_in > 100  # the kernel's count: with the handshake
            assert conn.transport is not None
            assert conn.transport.get_extra_info("sslcontext") is h.terminator.context

    run(body)


def test_a_protocol_may_be_replaced_and_a_connection_kicked(run: Run, authority: Authority) -> None:
    async def body() -> None:
        async with house(authority) as h:
            reader, writer = await h.client()
            conn = await h.only_row()
            await wait_until(lambda: conn.transport is not None)
            assert conn.transport is not None
            upper = Echo()
            upper.connection_made(conn.transport)
            upper.data_received = lambda data: upper.transport.write(  # type: ignore[method-assign]
                data.upper())
            conn.transport.set_protocol(upper)
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), 10) == b"HELLO"
            conn.close("kicked")
            assert await ended(reader)
            await wait_until(lambda: not len(h.table))

    run(body)


def test_a_stalled_handshake_is_a_connection_and_is_cut(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with house(authority, timeout=0.3) as h:
            reader = await h.plain()
            conn = await h.only_row()
            assert (conn.state, conn.tls) == ("handshake", None)
            assert connection_row(conn, "1.1").tls == ""
            assert h.acceptor.attaching() and h.acceptor.open == 1
            assert await ended(reader)
            await wait_until(lambda: not len(h.table))
            assert (h.acceptor.failed, h.acceptor.open, h.server.states) == (1, 0, [])
            assert not h.acceptor.attaching()

    run(body)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_a_handshake_under_way_can_be_kicked(run: Run, authority: Authority) -> None:
    async def body() -> None:
        async with house(authority) as h:
            reader = await h.plain(b"\x16")
            conn = await h.only_row()
            conn.close("kicked")
            assert await ended(reader)
            await wait_until(lambda: not len(h.table))
            assert h.acceptor.failed == 0

    run(body)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 9000, b"\0"])
def test_what_is_not_tls_costs_its_own_connection_only(
    run: Run, authority: Authority, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with house(authority) as h:
            good, writer = await h.client()
            for _ in range(5):
                reader = await h.plain(data)
                if len(data) == 1:
                    h.writers[-1].write_eof()
                assert await ended(reader)
            await wait_until(lambda: len(h.table) == 1)
            assert h.acceptor.failed == 5
            writer.write(b"still")
            assert await asyncio.wait_for(good.readexactly(5), 10) == b"still"

    caplog.set_level(logging.DEBUG)
    run(body)
    lines = [record for record in caplog.records if record.name == log.name]
    assert len(lines) == 1  # the others within ten seconds are only counted
    assert "handshake of 127.0.0.1:" in lines[0].getMessage()
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_a_factory_that_raises_costs_its_connection_only(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with house(authority) as h:
            h.server.fail = True
            reader, _ = await h.client()
            assert await ended(reader)
            await wait_until(lambda: not len(h.table))
            h.server.fail = False
            reader, writer = await h.client()
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"

    run(body)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [
        caplog.records[-1].getMessage()]
    assert "no protocol for the connection of 127.0.0.1:" in caplog.text


def test_clients_certificates(run: Run, authority: Authority) -> None:
    async def body() -> None:
        required = {"ca_certs": str(authority.path), "cert_reqs": 2}
        async with house(authority, **required) as h:
            reader, writer = await h.client(authority.client(authority.directory / "client.pem"))
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
            facts = (await h.only_row()).tls
            assert facts is not None and facts.peer_certificate is not None
            assert (("commonName", "client"),) in facts.peer_certificate["subject"]
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                # With TLS 1.3 the client has finished before the server looks.
                reader, writer = await h.client()
                assert await ended(reader)
            await wait_until(lambda: h.acceptor.failed == 1)
            assert len(h.server.states) == 1

    run(body)


def test_old_versions_are_refused(run: Run, authority: Authority) -> None:
    async def body() -> None:
        async with house(authority) as h:
            context = authority.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            _, writer = await h.client(context)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.raises(OSError):
                await h.client(context)

    with pytest.warns(DeprecationWarning):
        run(body)


def test_who_has_everything_and_does_not_answer_the_goodbye_is_not_waited_for(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(termination, "_SILENCE", 0.05)

    async def body() -> None:
        async with house(authority) as h:
            loop = asyncio.get_running_loop()
            sock = await loop.run_in_executor(None, _blocking_client, h)
            with sock:
                conn = await h.only_row()
                assert conn.transport is not None
                conn.transport.write(b"last words")
                conn.transport.close()
                await wait_until(lambda: not len(h.table))
                assert await loop.run_in_executor(None, sock.recv, 100) == b"last words"

    run(body)


def test_who_still_reads_is_waited_for(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(termination, "_SILENCE", 0.05)
    size = 3 << 20

    async def body() -> None:
        async with house(authority) as h:
            loop = asyncio.get_running_loop()
            sock = await loop.run_in_executor(None, _blocking_client, h)
            with sock:
                conn = await h.only_row()
                assert conn.transport is not None
                conn.transport.write(bytes(size))
                conn.transport.close()
                await asyncio.sleep(0.5)  # many looks, while nothing is read
                assert len(h.table) == 1
                assert await loop.run_in_executor(None, _read_all, sock) == size
                await wait_until(lambda: not len(h.table))

    run(body)


def _blocking_client(h: House) -> ssl.SSLSocket:
    sock = socket.create_connection(h.listener.getsockname(), 10)
    secure = h.authority.client().wrap_socket(sock, server_hostname="127.0.0.1")
    secure.sendall(b"x")
    secure.recv(1)  # the server's own end of the handshake is behind it now
    return secure


def _read_all(sock: ssl.SSLSocket) -> int:
    size = 0
    while data := sock.recv(65536):
        size += len(data)
    return size


def test_files_are_read_before_privileges_are_dropped(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropped(Exception):
        pass

    def drop(*args: Any, **options: Any) -> None:
        raise Dropped

    monkeypatch.setattr("apihour.worker.process.util.set_owner_process", drop)
    cfg = HostConfig()
    cfg.set("certfile", str(authority.directory / "server.pem"))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener("x", parse_address("127.0.0.1:0?tls"), sock, False)
        given: Any = SimpleNamespace(
            age=1, start=1, ppid=1, sockets=[listener], slot=1, generation=1, channel=None,
            row=SimpleNamespace(worker="1.1", pid=0, heartbeat=0.0,
                                connection_numbers=lambda: [0.0, 0.0]),
            scoreboard=None,
            runtime=Runtime(authority.directory))
        worker = HostWorker(given, None, cfg, SimpleNamespace(error_log=log))
        with pytest.raises(Dropped):
            worker.init_process()
        assert list(worker._servers.terminators) == [listener]


class Accepting:
    """A server that insists on accepting by itself."""

    protocol = "own"

    async def listener(self, sock: socket.socket) -> None: ...


class Shell:
    protocol = "ssh"
    is_shell = True


@pytest.mark.parametrize("server", [Accepting(), Shell()])
def test_a_server_that_would_lose_tls_is_refused(server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener("x", parse_address("127.0.0.1:0?tls"), sock, False)
        assert str(listener) == f"x=127.0.0.1:{sock.getsockname()[1]}?tls"
        with pytest.raises(ConfigurationError, match=r"server 'x': .*x=127.0.0.1:\d+\?tls"):
            Serving("x", server, [listener])


class Draining:
    """Says when it was told to drain."""

    protocol = "said"

    def __init__(self) -> None:
        self.told: list[int] = []
        self.made = 0

    def stream(self, conn: Any = None) -> asyncio.BaseProtocol:
        self.made += 1
        return Echo()

    async def drain(self, deadline: float) -> None:
        self.told.append(self.made)

    def statistics(self) -> dict[str, Any]:
        return {"requests": 1}


def test_draining_waits_for_a_handshake_and_drains_what_follows(
    run: Run, authority: Authority
) -> None:
    async def body() -> None:
        cfg = HostConfig()
        cfg.set("certfile", str(authority.directory / "server.pem"))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listener = Listener("x", parse_address("127.0.0.1:0?tls"), sock, False)
        terminators = termination.prepare(cfg, [listener])
        table, server = ConnectionTable("1.1"), Draining()
        serving = Serving("x", server, [listener])  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        await serving.accept(
            table, loop, log, None, 0, 1, terminators, authority.directory)
        raw = socket.create_connection(listener.getsockname())
        raw.setblocking(False)
        await wait_until(lambda: len(table) == 1)
        serving.stop_accepting()
        draining = asyncio.ensure_future(serving.drain(loop.time() + 10))
        await wait_until(lambda: server.told == [0])  # the others heard it at once
        assert not draining.done()
        _, writer = await asyncio.open_connection(
            sock=raw, ssl=authority.client(), server_hostname="127.0.0.1")
        await draining
        assert server.told == [0, 1]
        assert serving.statistics() == {"requests": 1, "handshakes_failed": 0}
        writer.transport.abort()
        await wait_until(lambda: not len(table))

    run(body)
